// Reads JSON strings, one per line, each an agent path template, and prints for each what Go's text/template makes of
// it with sprig's functions and the certificate in the file of its argument: the result, or the error and whether it
// came from parsing.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"text/template"

	"github.com/Masterminds/sprig/v3"
)

type answer struct {
	Result string `json:"result"`
	Stage  string `json:"stage,omitempty"`
	Error  string `json:"error,omitempty"`
}

func main() {
	var functions []string
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	// The first line lists the functions that templates may call besides Go's own.
	in.Scan()
	if err := json.Unmarshal(in.Bytes(), &functions); err != nil {
		panic(err)
	}
	all := sprig.TxtFuncMap()
	known := template.FuncMap{}
	for _, name := range functions {
		if all[name] == nil {
			panic("sprig has no function " + name)
		}
		known[name] = all[name]
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	for in.Scan() {
		var text string
		if err := json.Unmarshal(in.Bytes(), &text); err != nil {
			panic(err)
		}
		if err := encoder.Encode(fill(known, readData(os.Args[1]), text)); err != nil {
			panic(err)
		}
	}
}

func fill(functions template.FuncMap, data fields, text string) answer {
	parsed, err := template.New("agent-path").Option("missingkey=error").Funcs(functions).Parse(text)
	if err != nil {
		return answer{Stage: "parse", Error: err.Error()}
	}
	var result bytes.Buffer
	if err := parsed.Execute(&result, data); err != nil {
		return answer{Stage: "execute", Error: err.Error()}
	}
	return answer{Result: result.String()}
}
