// Command facts prints the names of all fields of KubeVirt's VirtualMachine and VirtualMachineInstance specs, and of
// CDI's DataVolume spec that they hold, of CDI's CDIConfig, of instancetypes, preferences, replica sets and pools, one a line: type, field, kind. The CRDs of sheaf-api must know every one of them, because the API server drops
// in silence what a schema does not know, and Sheaf refuses by name what it does not do.
//
//	go run . > kubevirt-v1.txt
package main

import (
	"fmt"
	"reflect"
	"sort"
	"strings"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	kubevirt "kubevirt.io/api/core/v1"
	instancetype "kubevirt.io/api/instancetype/v1beta1"
	pool "kubevirt.io/api/pool/v1beta1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// known says what a type is called here, or nothing: then only that it is an object is of interest. CDI and KubeVirt
// both have a DataVolumeSource; of Kubernetes' own types those of a claim and of the files of a downwardAPI volume matter.
func known(t reflect.Type) string {
	switch t.PkgPath() {
	case reflect.TypeOf(kubevirt.VirtualMachineSpec{}).PkgPath():
		return t.Name()
	case reflect.TypeOf(cdi.DataVolumeSpec{}).PkgPath():
		return "cdi." + t.Name()
	case reflect.TypeOf(instancetype.VirtualMachinePreferenceSpec{}).PkgPath():
		return "instancetype." + t.Name()
	case reflect.TypeOf(pool.VirtualMachinePoolSpec{}).PkgPath():
		return "pool." + t.Name()
	}
	switch t {
	case reflect.TypeOf(core.PersistentVolumeClaimSpec{}), reflect.TypeOf(core.VolumeResourceRequirements{}),
		reflect.TypeOf(core.PersistentVolumeClaimVolumeSource{}), reflect.TypeOf(core.DownwardAPIVolumeFile{}),
		reflect.TypeOf(core.ObjectFieldSelector{}):
		return "core." + t.Name()
	}
	return ""
}

func main() {
	lines := map[string]bool{}
	for _, root := range []any{
		kubevirt.VirtualMachineSpec{}, kubevirt.VirtualMachineInstanceReplicaSetSpec{}, instancetype.VirtualMachineInstancetypeSpec{}, instancetype.VirtualMachinePreferenceSpec{},
		pool.VirtualMachinePoolSpec{},
		cdi.CDIConfigSpec{},
	} {
		walk(reflect.TypeOf(root), lines, map[reflect.Type]bool{})
	}
	sorted := make([]string, 0, len(lines))
	for line := range lines {
		sorted = append(sorted, line)
	}
	sort.Strings(sorted)
	fmt.Println(strings.Join(sorted, "\n"))
}

// walk adds a line for each field of t and of the known types below it.
func walk(t reflect.Type, lines map[string]bool, seen map[reflect.Type]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	fields(t, func(name string, kind reflect.Type) {
		lines[known(t)+" "+name+" "+describe(kind, lines, seen)] = true
	})
}

// fields calls each with the JSON name and type of every field of t, those of embedded structs included.
func fields(t reflect.Type, each func(string, reflect.Type)) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for i := 0; i < t.NumField(); i++ {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if strings.Contains(options, "inline") || (field.Anonymous && name == "") {
			fields(field.Type, each)
		} else if name != "" && name != "-" {
			each(name, field.Type)
		}
	}
}

// describe says how a value of type t looks in JSON, and walks into the known types.
func describe(t reflect.Type, lines map[string]bool, seen map[reflect.Type]bool) string {
	switch t {
	case reflect.TypeOf(resource.Quantity{}), reflect.TypeOf(intstr.IntOrString{}):
		return "int-or-string"
	case reflect.TypeOf(metav1.Time{}), reflect.TypeOf(metav1.Duration{}):
		return "string"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return describe(t.Elem(), lines, seen)
	case reflect.Slice:
		return "list:" + describe(t.Elem(), lines, seen)
	case reflect.Struct:
		if name := known(t); name != "" {
			walk(t, lines, seen)
			return "object:" + name
		}
		return "object"
	case reflect.Map:
		return "object"
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "string"
	default:
		return "integer"
	}
}
