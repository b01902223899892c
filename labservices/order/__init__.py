"""The order service: accepts orders, and tracks their status."""

from labservices.order.api import make_router
from labservices.order.deadline import time_out_late_orders
from labservices.order.gauges import GAUGES
from labservices.order.handlers import HANDLERS
from labservices.order.opening import load_opening_data
from labservices.order.tables import metadata
from labservices.service import Service

service = Service("order", metadata, load_opening_data, HANDLERS, make_router, time_out_late_orders, GAUGES)
