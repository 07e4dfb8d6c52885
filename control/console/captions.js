// The written conversation: one item a turn, for the agent with what was
// heard set apart from what was not.

const speakers = { caller: 'You', agent: 'Agent' };

export class Captions {
  #log;
  #announce;
  #items = new Map();
  #names;
  #following = true;

  // announce is called with each finished turn.
  constructor(log, agentName, announce) {
    this.#log = log;
    this.#names = { ...speakers, agent: agentName };
    this.#announce = announce;
    // The log follows its end, until the reader scrolls away from it.
    log.addEventListener('scroll', () => {
      this.#following = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    });
    new ResizeObserver(() => this.#follow()).observe(log);
  }

  clear() {
    this.#items.clear();
    this.#following = true;
    this.#log.replaceChildren();
  }

  // caller shows what the caller said, as far as it is understood.
  caller({ turn, text, phase }) {
    const item = this.#item('caller', turn);
    item.body.replaceChildren(text || '');
    this.#mark(item, phase === 'final' ? 'final' : 'interim', text);
  }

  // agent shows what the agent says, and how much of it was heard.
  agent({ turn, text = '', heard = '', phase }) {
    const item = this.#item('agent', turn);
    const at = phase === 'heard' && !heard ? text.length : heardLength(text, heard);
    const parts = [span('heard', text.slice(0, at))];
    const rest = text.slice(at);
    if (phase === 'cut') {
      parts.push(cutMark());
      if (rest.trim()) parts.push(unseen(' Not heard: '), span('unheard', rest.trim()));
    } else if (rest) {
      parts.push(span('coming', rest));
    }
    item.body.replaceChildren(...parts);
    this.#mark(item, ['heard', 'cut'].includes(phase) ? phase : 'speaking', heard || text);
  }

  #item(speaker, turn) {
    const key = `${speaker} ${turn}`;
    let item = this.#items.get(key);
    if (!item) {
      item = { element: document.createElement('li'), body: document.createElement('p'), speaker };
      item.element.dataset.speaker = speaker;
      item.element.dataset.turn = turn;
      item.element.append(span('speaker', this.#names[speaker]), item.body);
      this.#log.append(item.element);
      this.#items.set(key, item);
    }
    return item;
  }

  #follow() {
    if (this.#following) this.#log.scrollTop = this.#log.scrollHeight;
  }

  #mark(item, state, text) {
    const changed = item.element.dataset.state !== state;
    item.element.dataset.state = state;
    this.#follow();
    if (!changed || !['final', 'heard', 'cut'].includes(state) || !text) return;
    const ending = state === 'cut' ? ' – interrupted' : '';
    this.#announce(`${this.#names[item.speaker]}: ${text}${ending}`);
  }
}

// heardLength tells how many characters of text the heard words cover. It
// compares words, since the two may differ in their white space.
function heardLength(text, heard) {
  if (!heard.trim()) return 0;
  if (text.startsWith(heard)) return heard.length;
  const count = heard.trim().split(/\s+/).length;
  const words = [...text.matchAll(/\S+/g)];
  if (words.length === 0) return 0;
  const last = words[Math.min(count, words.length) - 1];
  return last.index + last[0].length;
}

function span(name, text) {
  const element = document.createElement('span');
  element.className = name;
  element.textContent = text;
  return element;
}

function unseen(text) {
  return span('unseen', text);
}

function cutMark() {
  const mark = span('cut-mark', '');
  mark.append(unseen(' Interrupted here.'));
  return mark;
}
