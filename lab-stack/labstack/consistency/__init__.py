"""The referee (invariant checker): check the promises between the services in databases and topics.

It does not trust the services' own reports. `evidence` collects all rows and records, `facts` arranges them by order
and by event, and `invariants` evaluates them. `referee` does this for a running lab: `lab check`.

Each value is compared with at least one other place that must have it, too:

=====================  ==============================================================================================
evidence               is compared with
=====================  ==============================================================================================
orders                 order_history (status, version, reason), order_answers, the payload of each event, the rows of
                       the three steps; its items with its total and with the stock movements
order_history          orders; the ID, type and reason of the event that caused each status
order_answers          the events of inventory, payment and shipping: type, reason, ID
idempotency_keys       orders: customer, destination, items
catalogue, products    each other: name, price, currency; orders and accounts: currency
products               stock_movements: on hand, reserved, shipped
reservations           stock_movements and events: status, ID, reason; orders: goods
stock_movements        products, reservations; the event that caused each
accounts               ledger_entries: balance
payments               ledger_entries and events: status, ID, reason; orders: customer, amount, currency
ledger_entries         accounts, payments, orders: customer, amount; the event that caused each
shipments              carrier_bookings and events: status, ID, carrier, reason; orders: destination
carrier_bookings       shipments; the event that caused each
destinations           shipments: carrier
outbox                 records: topic, key, headers, payload; orders: payload, ID of the cause; all rows of its step
records                outbox; an event with several IDs; a record without a row
inbox                  records: position, ID, type; the outbox rows on which the service acts
parked_records         records and dead-letter records: position, key, headers, payload, error, attempts
offsets of consumers   the end of each partition
=====================  ==============================================================================================

`steps` compares the tables of one step, `orders` those of the order service, `agreement` the services with each other,
and `delivery` the outboxes, records and inboxes. Only the time of a write, names that exist once, and IDs that nothing
refers to have no second place; ``tests/stack/test_referee_walk.py`` lists them.
"""

from labstack.consistency.invariants import InvariantVerdict
from labstack.consistency.referee import check

__all__ = ["InvariantVerdict", "check"]
