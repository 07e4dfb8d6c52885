// Microphone, speaker, and how loud they are.

// MicrophoneError carries a kind: "refused", "none", "insecure", "in-use".
export class MicrophoneError extends Error {
  constructor(kind, message) {
    super(message || kind);
    this.kind = kind;
  }
}

// openMicrophone asks for the microphone, cleaned for speech.
export async function openMicrophone(deviceId) {
  if (!window.isSecureContext || !navigator.mediaDevices) throw new MicrophoneError('insecure');
  const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
  if (deviceId) audio.deviceId = { exact: deviceId };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (err) {
    if (err.name === 'OverconstrainedError' && deviceId) return openMicrophone(''); // it was unplugged
    const kinds = {
      NotAllowedError: 'refused', SecurityError: 'refused',
      NotFoundError: 'none', OverconstrainedError: 'none',
      NotReadableError: 'in-use', AbortError: 'in-use',
    };
    throw new MicrophoneError(kinds[err.name] || 'none', err.message);
  }
}

export function stop(stream) {
  for (const track of stream?.getTracks() || []) track.stop();
}

// fillDevices lists the devices of a kind in a select, keeping its choice. It
// returns how many the browser tells of; without leave it tells of none.
export async function fillDevices(select, kind) {
  const all = (await navigator.mediaDevices?.enumerateDevices?.()) || [];
  const devices = all.filter((d) => d.kind === kind && d.deviceId && d.deviceId !== 'default');
  const chosen = select.value;
  select.replaceChildren(new Option('System default', ''));
  devices.forEach((d, i) => select.add(new Option(d.label || `Device ${i + 1}`, d.deviceId)));
  select.value = devices.some((d) => d.deviceId === chosen) ? chosen : '';
  return devices.length;
}

// Levels measures how loud the microphone and the agent are, from 0 to 1.
export class Levels {
  #context = null;
  #taps = new Map();

  // start must be called by a click, else browsers keep the context silent.
  start() {
    this.#context ||= new AudioContext();
    this.#context.resume?.().catch(() => {}); // no meter then; the call itself is unharmed
  }

  watch(name, stream) {
    this.forget(name);
    if (!this.#context || !stream?.getAudioTracks().length) return;
    const source = this.#context.createMediaStreamSource(stream);
    const analyser = new AnalyserNode(this.#context, { fftSize: 1024, smoothingTimeConstant: 0 });
    source.connect(analyser);
    this.#taps.set(name, { source, analyser, samples: new Float32Array(analyser.fftSize) });
  }

  forget(name) {
    this.#taps.get(name)?.source.disconnect();
    this.#taps.delete(name);
  }

  // of maps -55 dBFS to 0 and -10 dBFS to 1: a quiet room and a firm voice.
  of(name) {
    const tap = this.#taps.get(name);
    if (!tap) return 0;
    tap.analyser.getFloatTimeDomainData(tap.samples);
    let sum = 0;
    for (const s of tap.samples) sum += s * s;
    const db = 10 * Math.log10(sum / tap.samples.length + 1e-9);
    return Math.min(1, Math.max(0, (db + 55) / 45));
  }

  async close() {
    for (const name of [...this.#taps.keys()]) this.forget(name);
    const context = this.#context;
    this.#context = null;
    await context?.close();
  }
}
