package flow

// kindNames lists the node types that run.
var kindNames = []string{
	"action", "agent", "composite", "condition", "hangup", "intent", "listen", "menu", "message", "play", "question", "record",
	"say", "send_dtmf", "split", "switch_language", "transfer", "voicemail", "wait", "webhook",
}

// kindOf returns a node type; its enter is nil if there is none. A new type is
// a case here and a name above.
func kindOf(typ string) kind {
	switch typ {
	case "message":
		return kind{compile: compileMessage, enter: enterMessage, input: inputMessage}
	case "question":
		return kind{compile: compileQuestion, enter: enterQuestion, input: inputQuestion, result: resultQuestion, targets: questionTargets, waits: true}
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
	case "say", "play":
		return kind{compile: compileSay, enter: enterMessage}
	case "menu":
		return kind{compile: compileMenu, enter: enterQuestion, input: inputQuestion, result: resultQuestion, targets: questionTargets, waits: true}
	case "split":
		return kind{compile: compileSplit, enter: enterSplit}
	case "wait":
		return kind{compile: compileWait, enter: enterWait, result: resultWait, waits: true, outside: true}
	case "send_dtmf":
		return kind{compile: compileDigits, enter: enterDigits}
	case "switch_language":
		return kind{compile: compileLanguage, enter: enterLanguage}
	case "voicemail", "record":
		return kind{compile: compileRecord, enter: enterRecord, result: resultRecord, waits: true}
	case "agent":
		return kind{compile: compileModel, enter: enterAgent, input: inputAgent, silent: silentAgent, result: resultAgent, targets: questionTargets, waits: true}
	case "listen":
		return kind{compile: compileModel, enter: enterListen, input: inputListen, result: resultListen, targets: questionTargets, waits: true}
	case "intent":
		return kind{compile: compileModel, enter: enterIntent, input: inputIntent, result: resultIntent, targets: questionTargets, waits: true}
	case "hangup":
		return kind{compile: compileHangup, enter: enterHangup}
	}
	return kind{}
}
