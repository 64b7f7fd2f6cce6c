// Reads JSON strings, one per line, each an HCL or JSON document, and prints for each what the reference
// implementation of HCL 1 makes of it: its syntax tree and the value that it decodes to, or its error.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/token"
)

type answer struct {
	Tree       any    `json:"tree"`
	TreeError  string `json:"treeError,omitempty"`
	Value      any    `json:"value"`
	ValueError string `json:"valueError,omitempty"`
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	for in.Scan() {
		var text string
		if err := json.Unmarshal(in.Bytes(), &text); err != nil {
			panic(err)
		}
		var a answer
		a.Tree, a.TreeError = try(func() (any, error) { return tree(text) })
		a.Value, a.ValueError = try(func() (any, error) { return value(text) })
		if err := encoder.Encode(a); err != nil {
			panic(err)
		}
	}
}

// The module panics on some strings.
func try(work func() (any, error)) (result any, message string) {
	defer func() {
		if reason := recover(); reason != nil {
			result, message = nil, fmt.Sprint("panic: ", reason)
		}
	}()
	result, err := work()
	if err != nil {
		return nil, err.Error()
	}
	return result, ""
}

func tree(text string) (any, error) {
	// Decoding into a node gives the tree without the refusal of duplicate keys.
	var node ast.Node
	if err := hcl.Decode(&node, text); err != nil {
		return nil, err
	}
	return describe(node), nil
}

func describe(node ast.Node) any {
	switch n := node.(type) {
	case *ast.ObjectList:
		items := []any{}
		for _, item := range n.Items {
			keys := []any{}
			for _, key := range item.Keys {
				keys = append(keys, []any{key.Token.Value(), place(key.Token.Pos)})
			}
			items = append(items, map[string]any{"keys": keys, "value": describe(item.Val)})
		}
		return map[string]any{"items": items}
	case *ast.ObjectType:
		described := describe(n.List).(map[string]any)
		described["at"] = place(n.Lbrace)
		return described
	case *ast.ListType:
		elements := []any{}
		for _, element := range n.List {
			elements = append(elements, describe(element))
		}
		return map[string]any{"list": elements, "at": place(n.Lbrack)}
	case *ast.LiteralType:
		text := n.Token.Text
		if n.Token.Type == token.STRING || n.Token.Type == token.HEREDOC {
			text = n.Token.Value().(string)
		}
		return map[string]any{"literal": n.Token.Type.String(), "text": text, "at": place(n.Token.Pos)}
	}
	return fmt.Sprintf("%T", node)
}

func place(pos token.Pos) string {
	return fmt.Sprintf("%d:%d", pos.Line, pos.Column)
}

func value(text string) (any, error) {
	decoded := map[string]any{}
	if err := hcl.Decode(&decoded, text); err != nil {
		return nil, err
	}
	return plain(decoded), nil
}

// Numbers become tagged texts, which survive JSON as they are.
func plain(value any) any {
	switch v := value.(type) {
	case int:
		return map[string]any{"integer": strconv.Itoa(v)}
	case float64:
		return map[string]any{"float": strconv.FormatFloat(v, 'g', -1, 64)}
	case []any:
		list := []any{}
		for _, element := range v {
			list = append(list, plain(element))
		}
		return list
	case []map[string]any:
		list := []any{}
		for _, element := range v {
			list = append(list, plain(element))
		}
		return list
	case map[string]any:
		object := map[string]any{}
		for key, element := range v {
			object[key] = plain(element)
		}
		return object
	}
	return value
}
