package flow

// argsRef is where a tool's actions find its arguments: {temp.args.name}.
var argsPath = []string{"args"}

// nextTool runs the next tool that the model wished for, or asks the model
// again where none is left.
func (t *turn) nextTool(n *node, k *Talk) move {
	b := n.body.(*modelBody)
	for len(k.Tools) > 0 {
		use := k.Tools[0]
		k.Tools = k.Tools[1:]
		tl := b.tool(use.Name)
		if tl == nil {
			t.emit("model_refused", map[string]any{"tool": cut(use.Name, 100), "reason": "there is no such tool"})
			k.answered(use, "refused: there is no such tool")
			continue
		}
		args, why := t.toolArgs(tl, use.Args)
		if why != "" {
			k.answered(use, "refused: "+why)
			continue
		}
		t.s.Temp, _ = assign(t.s.Temp, argsPath, args).(map[string]any)
		t.emit("tool_used", map[string]any{"node": n.id, "tool": tl.name})
		k.Tool = &ToolUse{Name: tl.name, Args: args}
		fr := t.frame()
		fr.Index, fr.Failed = 0, false
		m := t.runActions(n, tl.body)
		if m.wait {
			return m
		}
		t.toolDone(k, tl, m.outcome)
	}
	return t.agentRound(n, k)
}

// toolResult takes what a tool's effect came to.
func (t *turn) toolResult(n *node, k *Talk, r Result) move {
	tl := n.body.(*modelBody).tool(k.Tool.Name)
	if tl == nil {
		k.Tool = nil
		return t.nextTool(n, k)
	}
	m := t.resultActions(n, tl.body, r)
	if m.wait {
		return m
	}
	t.toolDone(k, tl, m.outcome)
	return t.nextTool(n, k)
}

// toolDone tells the model what a tool came to.
func (t *turn) toolDone(k *Talk, tl *tool, outcome string) {
	answer := "failed"
	if outcome == "success" {
		answer = "done"
		if tl.returns != nil {
			answer = text(t.value(*tl.returns))
		}
	}
	if len(answer) > maxReturned {
		answer = cut(answer, maxReturned) + " …"
	}
	use := *k.Tool
	k.Tool = nil
	k.answered(use, answer)
}

// answered notes a wish with what came of it.
func (k *Talk) answered(use ToolUse, answer string) {
	args := rawJSON(use.Args)
	if use.Args == nil || len(args) > maxReturned {
		args = []byte("{}")
	}
	k.add(Line{Who: ByWish, Wish: cut(use.Name, 64), Args: string(args), Text: answer})
}

// toolArgs reads the arguments that a model gives a tool. What is not declared
// is left out.
func (t *turn) toolArgs(tl *tool, given map[string]any) (args map[string]any, why string) {
	args = map[string]any{}
	for i := range tl.args {
		s := &tl.args[i]
		v, ok := given[s.name]
		if !ok || v == nil || v == "" {
			if !s.optional {
				return nil, s.name + " is missing"
			}
			continue
		}
		if args[s.name], ok = t.readSlot(s, v); !ok {
			return nil, s.name + " is no " + s.q.typ + " that is taken here"
		}
	}
	return args, ""
}

func (b *modelBody) tool(name string) *tool {
	for i := range b.tools {
		if b.tools[i].name == name {
			return &b.tools[i]
		}
	}
	return nil
}
