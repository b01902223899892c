// Command admission checks documents as an API server does before it stores them: custom resources against their
// definitions (defaults, types, unknown fields, rules in CEL), and pods against Pod Security `restricted`.
//
// usage: admission FOLDER... <documents.json, with custom resource definitions in the folders. It prints one problem a line.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// definition is what one version of a custom resource demands.
type definition struct {
	structural *schema.Structural
	validator  validation.SchemaValidator
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return value
}

// read returns the definitions in the folders, by API version and kind.
func read(folders []string) map[string]definition {
	found := map[string]definition{}
	for _, folder := range folders {
		for _, file := range must(filepath.Glob(filepath.Join(folder, "*.yaml"))) {
			decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(must(os.ReadFile(file))), 1<<20)
			for {
				var crd apiextensionsv1.CustomResourceDefinition
				if err := decoder.Decode(&crd); err == io.EOF {
					break
				} else if err != nil || crd.Kind != "CustomResourceDefinition" {
					continue
				}
				for _, version := range crd.Spec.Versions {
					var internal apiextensions.JSONSchemaProps
					source := version.Schema.OpenAPIV3Schema
					if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(source, &internal, nil); err != nil {
						must(0, err)
					}
					validator, _, err := validation.NewSchemaValidator(&internal)
					must(0, err)
					name := crd.Spec.Group + "/" + version.Name + " " + crd.Spec.Names.Kind
					found[name] = definition{must(schema.NewStructural(&internal)), validator}
				}
			}
		}
	}
	return found
}

// problems returns what an API server objects to in a custom resource.
func (d definition) problems(document map[string]any) []string {
	found := []string{}
	options := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, path := range pruning.PruneWithOptions(document, d.structural, true, options) {
		found = append(found, "unknown field "+path)
	}
	defaulting.Default(document, d.structural)
	for _, err := range validation.ValidateCustomResource(nil, document, d.validator) {
		found = append(found, err.Error())
	}
	rules := cel.NewValidator(d.structural, true, celconfig.PerCallLimit)
	errs, _ := rules.Validate(context.Background(), nil, d.structural, document, nil, celconfig.RuntimeCELCostBudget)
	for _, err := range errs {
		found = append(found, err.Error())
	}
	return found
}

// pod returns the pod of a workload, or nil.
func pod(document map[string]any) *corev1.PodTemplateSpec {
	switch document["kind"] {
	case "Deployment", "StatefulSet", "Job":
		// All three have their template in the same place.
		var workload appsv1.Deployment
		must(0, json.Unmarshal(must(json.Marshal(document)), &workload))
		return &workload.Spec.Template
	}
	return nil
}

func main() {
	definitions := read(os.Args[1:])
	evaluator := must(policy.NewEvaluator(policy.DefaultChecks()))
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	var documents []map[string]any
	must(0, utiljson.Unmarshal(must(io.ReadAll(os.Stdin)), &documents)) // unlike encoding/json, it keeps integers
	for _, document := range documents {
		name := fmt.Sprintf("%v %v", document["apiVersion"], document["kind"])
		found := []string{}
		if definition, ok := definitions[name]; ok {
			found = definition.problems(document)
		} else if group, _, inGroup := strings.Cut(fmt.Sprint(document["apiVersion"]), "/"); inGroup && strings.Contains(group, ".") && !strings.HasSuffix(group, ".k8s.io") {
			found = append(found, "there is no definition of "+name)
		}
		if template := pod(document); template != nil {
			if result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &template.ObjectMeta, &template.Spec)); !result.Allowed {
				found = append(found, "Pod Security refuses it: "+result.ForbiddenDetail())
			}
		}
		for _, problem := range found {
			fmt.Printf("%s %v: %s\n", name, document["metadata"].(map[string]any)["name"], problem)
		}
	}
}
