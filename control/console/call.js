// The call page: one button, and everything that follows from it.

import { Captions } from './captions.js';
import { Line, LineError, fetchToken } from './line.js';
import { Levels, MicrophoneError, fillDevices, openMicrophone, stop } from './sound.js';
import { Orb } from './orb.js';
import { lineFaults, microphoneFaults, signInFaults, speakerBlocked, states } from './words.js';

const connectWithin = 20000; // ms from the answer to the first connection
const $ = (id) => document.getElementById(id);
const app = $('app');
const agent = app.dataset.agent;

const levels = new Levels();
const orb = new Orb($('orb'), [...$('mic-level').children], levels);
const captions = new Captions($('log'), app.dataset.name, (text) => {
  if ($('announce').checked) $('announcer').textContent = text;
});

// call is the running call, or null. One object a call: what an old call still
// has under way sees that it is no longer the current one, and stops.
let call = null;
let bearer = ''; // of the signed-in user, where sign-in answers with one

// --- what is shown ---

// show puts the call's state into words. Changes of the conversation are
// heard anyway, so a screen reader is told only of the call's own.
function show(state, phase, { quiet = false } = {}) {
  $('status').setAttribute('aria-live', quiet ? 'off' : 'polite');
  $('status').dataset.state = state;
  $('state').textContent = states[state];
  app.dataset.phase = phase;
  orb.phase = ['listening', 'thinking', 'speaking'].includes(state) ? state : phase;
  const running = phase !== 'idle' && phase !== 'ended';
  const live = phase === 'live';
  $('call-label').textContent = running ? 'Hang up' : 'Call';
  $('message').disabled = $('send').disabled = !live;
  $('mute').disabled = !call?.microphone;
  for (const key of $('keypad').children) key.disabled = !live;
}

function notice(text, action, act) {
  $('notice').hidden = !text;
  $('notice-text').textContent = text || '';
  $('notice-action').hidden = !action;
  $('notice-action').textContent = action || '';
  $('notice-action').onclick = act || null;
}

function showLatency(ms) {
  $('status').dataset.latencyMs = ms;
  $('latency').hidden = false;
  $('latency').textContent = `answered in ${(ms / 1000).toFixed(ms < 9950 ? 2 : 1)} s`;
}

// --- a call ---

async function begin({ listenOnly = false } = {}) {
  if (call) return;
  const mine = (call = { abort: new AbortController(), microphone: null, line: null, resume: '', resumed: false, ended: false });
  notice('');
  $('signin').hidden = true;
  captions.clear();
  delete $('status').dataset.latencyMs;
  $('latency').hidden = true;
  levels.start();
  try {
    if (!listenOnly) {
      show('microphone', 'connecting');
      await takeMicrophone(mine);
    }
    if (call !== mine) return;
    show('connecting', 'connecting');
    mine.token = await fetchToken(agent, bearer, mine.abort.signal);
    if (call !== mine) return;
    await connect(mine);
  } catch (err) {
    if (call === mine) fail(err);
  }
}

async function takeMicrophone(mine) {
  const microphone = await openMicrophone($('mic').value);
  if (call !== mine) {
    stop(microphone);
    return;
  }
  mine.microphone = microphone;
  levels.watch('mic', microphone);
  refreshDevices();
}

async function connect(mine) {
  const line = new Line(mine.token, mine.microphone);
  mine.line = line;
  line.addEventListener('stream', (e) => play(e.detail));
  line.addEventListener('message', (e) => heardFrom(mine, e.detail));
  line.addEventListener('state', (e) => lineState(mine, line, e.detail));
  line.addEventListener('lost', () => lost(mine, line));
  mine.timer = setTimeout(() => lost(mine, line), connectWithin);
  await line.open(agent, mine.abort.signal, mine.resumed ? mine.resume : '');
}

function lineState(mine, line, state) {
  if (call !== mine || mine.line !== line) return;
  if (state === 'connected') {
    clearTimeout(mine.timer);
    mine.connected = true;
    mine.resumed = false;
    show(mine.agentState || 'connected', 'live');
    notice($('sound').paused && $('sound').srcObject ? $('notice-text').textContent : '');
    if ($('sound').srcObject) startSound();
  } else if (state === 'disconnected') {
    show('weak', 'live');
  }
}

// lost takes the call up again once; after that it is the caller's choice. The
// old line is let go only then: to close it is to hang up, should the network
// be back to carry the word.
async function lost(mine, line) {
  if (call !== mine || mine.line !== line || mine.ended) return;
  clearTimeout(mine.timer);
  if (!mine.connected) return fail(new LineError('media'));
  if (mine.resumed || !mine.resume) return fail(new LineError('lost'));
  mine.resumed = true;
  show('reconnecting', 'connecting');
  try {
    await connect(mine);
  } catch (err) {
    if (call === mine) fail(err.kind === 'gone' || err.kind === 'no-agent' ? err : new LineError('lost'));
  } finally {
    line.close({ hangUp: false });
  }
}

function finish(state) {
  const mine = call;
  call = null;
  clearTimeout(mine.timer);
  mine.abort.abort(new LineError('network', 'hung up'));
  mine.line?.close({ hangUp: !mine.ended });
  stop(mine.microphone);
  $('sound').srcObject = null;
  levels.close();
  setMuted(null, false);
  show(state, 'ended');
}

function fail(err) {
  const again = () => begin();
  finish('failed');
  if (err instanceof MicrophoneError) {
    notice(microphoneFaults[err.kind], 'Continue without microphone', () => begin({ listenOnly: true }));
  } else if (err.kind === 'sign-in' && app.dataset.public !== 'true') {
    askToSignIn();
  } else if (err.kind === 'gone') {
    show('ended', 'ended');
  } else {
    notice(lineFaults[err.kind] || lineFaults.fault, 'Try again', again);
  }
}

// heardFrom takes an event of the agent.
function heardFrom(mine, message) {
  if (call !== mine) return;
  switch (message.type) {
    case 'session':
      mine.resume = message.resume || '';
      break;
    case 'state':
      mine.agentState = states[message.state] ? message.state : mine.agentState;
      if (mine.agentState) show(mine.agentState, 'live', { quiet: true });
      break;
    case 'transcript':
      captions.caller(message);
      break;
    case 'agent':
      captions.agent(message);
      break;
    case 'latency':
      showLatency(message.latency_ms || 0);
      break;
    case 'ended':
      mine.ended = true;
      finish('ended');
      break;
  }
}

// --- sound ---

function play(stream) {
  $('sound').srcObject = stream;
  levels.watch('agent', stream);
  startSound();
}

async function startSound() {
  try {
    await $('sound').play();
    if ($('notice-text').textContent === speakerBlocked) notice('');
  } catch (err) {
    if (err.name === 'NotAllowedError') {
      notice(speakerBlocked, 'Turn sound on', () => { levels.start(); startSound(); });
    }
  }
}

function setMuted(microphone, muted) {
  for (const track of microphone?.getAudioTracks() || []) track.enabled = !muted;
  $('mute').setAttribute('aria-pressed', String(muted));
}

async function refreshDevices() {
  await fillDevices($('mic'), 'audioinput');
  const canChoose = 'setSinkId' in HTMLMediaElement.prototype;
  const speakers = await fillDevices($('speaker'), 'audiooutput');
  $('speaker').hidden = $('speaker-label').hidden = !canChoose || speakers === 0;
}

async function changeMicrophone() {
  const mine = call;
  if (!mine?.microphone) return;
  try {
    const fresh = await openMicrophone($('mic').value);
    if (call !== mine) return stop(fresh);
    await mine.line?.microphone(fresh);
    stop(mine.microphone);
    mine.microphone = fresh;
    levels.watch('mic', fresh);
    setMuted(fresh, $('mute').getAttribute('aria-pressed') === 'true');
  } catch (err) {
    notice(microphoneFaults[err.kind] || microphoneFaults.none);
  }
}

// --- sign-in ---

function askToSignIn() {
  show('idle', 'idle');
  $('signin').hidden = false;
  $('email').focus();
}

async function signIn(event) {
  event.preventDefault();
  const problem = (text) => {
    $('signin-error').textContent = text;
    $('signin-error').hidden = !text;
  };
  problem('');
  const body = JSON.stringify({ email: $('email').value, password: $('password').value });
  try {
    const answer = await fetch('/v1/auth/login', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
    if (!answer.ok) return problem(signInFaults[answer.status] || lineFaults.fault);
    const granted = await answer.json().catch(() => ({}));
    bearer = granted.access_token || '';
    $('password').value = '';
    begin();
  } catch {
    problem(lineFaults.network);
  }
}

// --- controls ---

function press(digit) {
  if (!call?.line?.send({ type: 'dtmf', digit })) return;
  const key = [...$('keypad').children].find((k) => k.dataset.digit === digit);
  key?.classList.add('pressed');
  setTimeout(() => key?.classList.remove('pressed'), 150);
}

// disclose opens and closes the panels under the tools, one at a time.
function disclose(...pairs) {
  const set = ([toggle, panel], open) => {
    panel.hidden = !open;
    toggle.setAttribute('aria-expanded', String(open));
  };
  for (const pair of pairs) {
    pair[0].addEventListener('click', () => {
      const open = pair[1].hidden;
      pairs.forEach((other) => set(other, other === pair && open));
    });
  }
}

function wire() {
  $('call').addEventListener('click', () => (call ? finish('ended') : begin()));
  $('mute').addEventListener('click', () => setMuted(call?.microphone, $('mute').getAttribute('aria-pressed') !== 'true'));
  $('compose').addEventListener('submit', (event) => {
    event.preventDefault();
    const text = $('message').value.trim();
    if (text && call?.line?.send({ type: 'text', text })) $('message').value = '';
  });
  $('keypad').addEventListener('click', (event) => event.target.dataset.digit && press(event.target.dataset.digit));
  document.addEventListener('keydown', (event) => {
    const typing = event.target.closest('input, select, textarea');
    if (!$('keypad').hidden && !typing && !event.ctrlKey && !event.metaKey && !event.altKey && /^[0-9*#]$/.test(event.key)) press(event.key);
  });
  disclose([$('keypad-toggle'), $('keypad')], [$('devices-toggle'), $('devices')]);
  $('mic').addEventListener('change', changeMicrophone);
  $('speaker').addEventListener('change', () => $('sound').setSinkId?.($('speaker').value).catch(() => {}));
  $('signin').addEventListener('submit', signIn);
  navigator.mediaDevices?.addEventListener?.('devicechange', refreshDevices);
  addEventListener('pagehide', () => call && finish('ended'));
}

wire();
show('idle', 'idle');
refreshDevices();
if (!window.isSecureContext) notice(microphoneFaults.insecure, 'Continue without microphone', () => begin({ listenOnly: true }));
