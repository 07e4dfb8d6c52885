package flow

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	celref "cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// celFunctions are the functions beside CEL's own. They are filled in by
// aggregate.go, which the action "aggregate" shares.
func celFunctions() []cel.EnvOption {
	var opts []cel.EnvOption
	for _, a := range aggregates {
		opts = append(opts, celFunction(a))
	}
	return opts
}

func celFunction(a aggregate) cel.EnvOption {
	call := func(args ...celref.Val) celref.Val {
		values := make([]any, len(args))
		for i, arg := range args {
			v, err := fromCEL(arg, MaxStateDepth)
			if err != nil {
				return types.WrapErr(err)
			}
			values[i] = v
		}
		v, err := a.call(values)
		if err != nil {
			return types.WrapErr(fmt.Errorf("%s: %w", a.name, err))
		}
		return types.DefaultTypeAdapter.NativeToValue(celValue(v))
	}
	var overloads []cel.FunctionOpt
	for n := a.min; n <= a.max; n++ {
		params := make([]*cel.Type, n)
		for i := range params {
			params[i] = cel.DynType
		}
		overloads = append(overloads, cel.Overload(fmt.Sprintf("%s_%d", a.name, n), params, cel.DynType))
	}
	return cel.Function(a.name, append(overloads, cel.SingletonFunctionBinding(call))...)
}

// celNative unwraps lists, maps and numbers.
func celNative(v celref.Val, depth int) (any, error) {
	if depth < 0 {
		return nil, fmt.Errorf("the value is nested too deep")
	}
	switch v := v.(type) {
	case *types.Err:
		return nil, v
	case types.Null:
		return nil, nil
	case traits.Lister:
		out := []any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			e, err := celNative(it.Next(), depth-1)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		}
		return out, nil
	case traits.Mapper:
		out := map[string]any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			k := it.Next()
			e, err := celNative(v.Get(k), depth-1)
			if err != nil {
				return nil, err
			}
			name, ok := k.ConvertToType(types.StringType).(types.String)
			if !ok {
				return nil, fmt.Errorf("a key is no text")
			}
			out[string(name)] = e
		}
		return out, nil
	}
	return v.Value(), nil
}
