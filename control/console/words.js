// What the page says. Every fault has one sentence on what happened and one on
// what to do.

export const states = {
  idle: 'Ready when you are',
  microphone: 'Asking for your microphone…',
  connecting: 'Connecting…',
  connected: 'Connected',
  listening: 'Listening',
  thinking: 'Thinking…',
  speaking: 'Speaking',
  paused: 'Listening',
  closing: 'Saying goodbye…',
  weak: 'Connection is weak. Holding on…',
  reconnecting: 'Reconnecting…',
  ended: 'Call ended',
  failed: 'Not connected',
};

export const microphoneFaults = {
  refused: 'Your browser did not let this page use the microphone. Allow it in the address bar, then call again.',
  none: 'No microphone was found. Plug one in, then call again.',
  insecure: 'Browsers give the microphone only to secure pages. Open this page with https:// in front, then call.',
  'in-use': 'The microphone is busy. Close other programs that use it, then call again.',
};

export const lineFaults = {
  'too-many': 'There have been many calls from here. Please wait a minute, then call again.',
  'no-agent': 'This agent takes no calls at the moment. Check the link, or ask for a new one.',
  busy: 'All lines are busy right now. Please try again in a moment.',
  gone: 'The call had already ended.',
  network: 'The network could not be reached. Check your connection, then call again.',
  media: 'Sound could not get through. A firewall or VPN may block calls: try another network.',
  lost: 'The connection was lost and did not come back. You can call again.',
  'sign-in': 'Your sign-in was not accepted. Please sign in again.',
  fault: 'Something went wrong on our side. Please try again in a moment.',
};

export const signInFaults = {
  401: 'Email or password is not right.',
  403: 'This account may not call this agent.',
  429: 'Too many attempts. Please wait a minute.',
};

export const speakerBlocked = 'Your browser keeps this page silent until you allow sound.';
