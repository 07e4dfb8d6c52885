package flow

// kindNames lists the node types that run.
var kindNames = []string{"action", "composite", "condition", "hangup", "message", "question", "transfer", "webhook"}

// kindOf returns a node type; its enter is nil if there is none. A new type is
// a case here and a name above.
func kindOf(typ string) kind {
	switch typ {
	case "message":
		return kind{compile: compileMessage, enter: enterMessage, input: inputMessage}
	case "question":
		return kind{compile: compileQuestion, enter: enterQuestion, input: inputQuestion, targets: questionTargets, waits: true}
	case "condition":
		return kind{compile: compileCondition, enter: enterCondition, targets: conditionTargets}
	case "transfer":
		return kind{compile: compileTransfer, enter: enterTransfer, result: resultTransfer, waits: true}
	case "action":
		return kind{compile: compileAction, enter: enterAction, result: resultAction, outside: true}
	case "composite":
		return kind{compile: compileComposite, enter: enterComposite}
	case "webhook":
		return kind{compile: compileWebhook, enter: enterWebhook, result: resultWebhook, outside: true}
	case "hangup":
		return kind{compile: compileHangup, enter: enterHangup}
	}
	return kind{}
}
