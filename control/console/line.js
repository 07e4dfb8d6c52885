// The line to the agent: one WebRTC connection with its signaling by HTTP
// (shaped after RFC 9725) and the data channel "events".

const gatherFor = 1000; // ms to wait for candidates before the offer goes out
const reportEvery = 200; // ms between reports of what was played
const answerWithin = 15000; // ms until an unanswered request counts as lost

// LineError carries a kind that the page has words for: "sign-in", "too-many",
// "no-agent", "busy", "gone", "network", "fault".
export class LineError extends Error {
  constructor(kind, message) {
    super(message || kind);
    this.kind = kind;
  }
}

// fetchToken asks the page's own endpoint for leave to open one call.
export async function fetchToken(agent, bearer, signal) {
  const headers = bearer ? { Authorization: `Bearer ${bearer}` } : {};
  const answer = await request(`/call/${encodeURIComponent(agent)}/token`, { method: 'POST', headers }, signal);
  if (!answer.ok) throw refusal(answer);
  return answer.json();
}

async function request(url, options, signal) {
  const limits = [AbortSignal.timeout(answerWithin)];
  if (signal) limits.push(signal);
  try {
    return await fetch(url, { credentials: 'same-origin', ...options, signal: AbortSignal.any(limits) });
  } catch (err) {
    if (signal?.aborted) throw signal.reason;
    throw new LineError('network', err.message);
  }
}

function refusal(answer) {
  const kinds = { 401: 'sign-in', 403: 'sign-in', 404: 'no-agent', 409: 'gone', 410: 'gone', 429: 'too-many', 503: 'busy' };
  return new LineError(kinds[answer.status] || 'fault', `status ${answer.status}`);
}

// A Line is one connection. It raises, as CustomEvents: "message" (an event of
// the agent), "stream" (the agent's audio), "state" (the connection's state)
// and "lost" (it will not come back by itself).
export class Line extends EventTarget {
  #peer;
  #events;
  #bearer;
  #location = '';
  #etag = '';
  #candidates = []; // not yet sent
  #sent = false; // the offer is out
  #timer = 0;
  #lastPlayed = -1;
  #closed = false;

  // microphone may be null: the caller then listens and types.
  constructor({ token, ice_servers: iceServers }, microphone) {
    super();
    this.#bearer = token;
    this.#peer = new RTCPeerConnection({ iceServers: iceServers || [], bundlePolicy: 'max-bundle' });
    const track = microphone?.getAudioTracks()[0];
    this.#peer.addTransceiver(track || 'audio', { direction: 'sendrecv', streams: microphone ? [microphone] : [] });
    this.#events = this.#peer.createDataChannel('events', { ordered: true });
    this.#events.onmessage = (e) => this.#receive(e.data);
    this.#events.onopen = () => { this.#timer = setInterval(() => this.#reportPlayed(), reportEvery); };
    this.#events.onclose = () => this.#lose();
    this.#peer.ontrack = (e) => this.#raise('stream', e.streams[0] || new MediaStream([e.track]));
    this.#peer.onconnectionstatechange = () => {
      this.#raise('state', this.#peer.connectionState);
      if (this.#peer.connectionState === 'failed') this.#lose();
    };
    this.#peer.onicecandidate = (e) => this.#gathered(e.candidate);
  }

  // open places the call. With resume it takes up a call that was cut off.
  async open(agent, signal, resume) {
    await this.#peer.setLocalDescription(await this.#peer.createOffer());
    await this.#gatheredOr(gatherFor, signal);
    const headers = { Authorization: `Bearer ${this.#bearer}`, 'Content-Type': 'application/sdp' };
    if (resume) headers['Parley-Resume'] = resume;
    const offer = this.#peer.localDescription.sdp;
    this.#candidates = []; // the offer holds them
    const url = `/webrtc/${encodeURIComponent(agent)}`;
    const answer = await request(url, { method: 'POST', headers, body: offer }, signal);
    if (answer.status !== 201) throw refusal(answer);
    this.#location = new URL(answer.headers.get('Location') || '', new URL(url, location.href)).href;
    this.#etag = answer.headers.get('ETag') || '';
    const sdp = await answer.text();
    if (this.#closed) { // hung up meanwhile
      this.#hangUpThere();
      return;
    }
    await this.#peer.setRemoteDescription({ type: 'answer', sdp });
    this.#sent = true;
    await this.#trickle();
  }

  // send puts a message to the agent. It reports whether the line took it.
  send(message) {
    if (this.#events.readyState !== 'open') return false;
    this.#events.send(JSON.stringify(message));
    return true;
  }

  // microphone replaces the track that is sent, without a new offer.
  async microphone(stream) {
    const sender = this.#peer.getSenders()[0];
    await sender.replaceTrack(stream ? stream.getAudioTracks()[0] : null);
  }

  // close ends the line; with hangUp the far side is told by DELETE.
  close({ hangUp }) {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    if (hangUp) this.#hangUpThere();
    this.#events.close();
    this.#peer.close();
  }

  #hangUpThere() {
    if (!this.#location) return;
    const headers = { Authorization: `Bearer ${this.#bearer}` };
    fetch(this.#location, { method: 'DELETE', headers, keepalive: true }).catch(() => {}); // the leg's own timeout ends it too
  }

  #raise(type, detail) {
    if (!this.#closed) this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #lose() {
    this.#raise('lost');
  }

  #receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return; // a newer server may say what we cannot read
    }
    if (message.type === 'session' && message.secret) this.#bearer = message.secret;
    this.#raise('message', message);
  }

  // #reportPlayed tells which RTP timestamp last left the speaker, by which
  // the agent knows what was heard.
  #reportPlayed() {
    for (const receiver of this.#peer.getReceivers()) {
      const source = receiver.getSynchronizationSources?.()[0];
      if (source && source.rtpTimestamp !== this.#lastPlayed) {
        this.#lastPlayed = source.rtpTimestamp;
        this.send({ type: 'played', rtp: source.rtpTimestamp });
      }
    }
  }

  #gathered(candidate) {
    this.#candidates.push(candidate ? candidate.candidate : '');
    this.#trickle();
  }

  #gatheredOr(wait, signal) {
    return new Promise((resolve, reject) => {
      const done = () => { clearTimeout(timer); resolve(); };
      const timer = setTimeout(done, wait);
      if (this.#peer.iceGatheringState === 'complete') done();
      this.#peer.addEventListener('icegatheringstatechange', () => {
        if (this.#peer.iceGatheringState === 'complete') done();
      });
      signal?.addEventListener('abort', () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
    });
  }

  // #trickle sends the candidates found after the offer (RFC 8840 fragment).
  async #trickle() {
    const late = this.#candidates.filter(Boolean);
    if (!this.#sent || this.#closed || late.length === 0 || !this.#etag) return;
    const ended = this.#candidates.includes('');
    this.#candidates = [];
    const body = fragment(this.#peer.localDescription.sdp, late, ended);
    const headers = {
      Authorization: `Bearer ${this.#bearer}`,
      'Content-Type': 'application/trickle-ice-sdpfrag',
      'If-Match': this.#etag,
    };
    // Without these candidates the call may still connect by the others.
    await request(this.#location, { method: 'PATCH', headers, body }).catch(() => {});
  }
}

function fragment(sdp, candidates, ended) {
  const line = (prefix) => sdp.split(/\r?\n/).find((l) => l.startsWith(prefix));
  const lines = ['a=group:', 'a=ice-ufrag:', 'a=ice-pwd:', 'm=', 'a=mid:'].map(line).filter(Boolean);
  for (const candidate of candidates) lines.push(`a=${candidate}`);
  if (ended) lines.push('a=end-of-candidates');
  return lines.join('\r\n') + '\r\n';
}
