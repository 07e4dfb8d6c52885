// The orb: a calm shape that breathes with the agent's voice, and a thin ring
// that answers to the caller's. With reduced motion it only changes size, four
// times a second.

const still = matchMedia('(prefers-reduced-motion: reduce)');

export class Orb {
  #canvas;
  #levels;
  #bars;
  #phase = 'idle';
  #agent = 0;
  #mic = 0;
  #last = 0;
  #drift = 0;

  constructor(canvas, bars, levels) {
    this.#canvas = canvas;
    this.#bars = bars;
    this.#levels = levels;
    const tick = (now) => {
      if (!still.matches || now - this.#last >= 250) this.#step(now);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  // phase: idle, connecting, listening, thinking, speaking, ended.
  set phase(phase) {
    this.#phase = phase;
  }

  #step(now) {
    const dt = Math.min(0.1, (now - this.#last) / 1000);
    this.#last = now;
    const follow = (from, to) => from + (to - from) * Math.min(1, dt * (to > from ? 18 : 6));
    this.#agent = follow(this.#agent, this.#levels.of('agent'));
    this.#mic = follow(this.#mic, this.#levels.of('mic'));
    const speed = { idle: 0.25, ended: 0.15, thinking: 1.4 }[this.#phase] ?? 0.6;
    if (!still.matches) this.#drift += dt * (speed + this.#agent * 1.6);
    this.#draw();
    const lit = Math.round(this.#mic * this.#bars.length);
    this.#bars.forEach((bar, i) => bar.classList.toggle('lit', i < lit));
  }

  #draw() {
    const { width: size } = this.#canvas;
    const g = this.#canvas.getContext('2d');
    const style = getComputedStyle(this.#canvas);
    const [a, b, c] = ['--orb-a', '--orb-b', '--orb-c'].map((name) => style.getPropertyValue(name).trim());
    const middle = size / 2;
    const radius = size * (0.27 + this.#agent * 0.065);
    g.clearRect(0, 0, size, size);

    g.globalAlpha = 0.3 + this.#agent * 0.4;
    g.fillStyle = fade(g, b, middle, middle, radius * 0.7, size * 0.5);
    g.fillRect(0, 0, size, size);

    // Two soft veils around the body, which swell with the voice.
    for (const [color, scale, turn] of [[a, 1.07, 0], [c, 1.04, 2.4]]) {
      g.globalAlpha = 0.3;
      g.fillStyle = color;
      g.beginPath();
      this.#outline(g, middle, radius * scale, turn);
      g.fill();
    }
    g.globalAlpha = 1;
    this.#body(g, middle, radius, [a, b, c]);

    g.globalAlpha = 0.16 + this.#mic * 0.6;
    g.strokeStyle = a;
    g.lineWidth = 2 + this.#mic * 5;
    g.beginPath();
    g.arc(middle, middle, size * (0.4 + this.#mic * 0.035), 0, Math.PI * 2);
    g.stroke();
    g.globalAlpha = 1;
  }

  // #body fills the shape with colors that wander slowly within it.
  #body(g, middle, radius, [a, b, c]) {
    g.save();
    g.beginPath();
    this.#outline(g, middle, radius, 1.1);
    g.clip();
    g.fillStyle = b;
    g.fillRect(0, 0, middle * 2, middle * 2);
    for (const [color, turn, reach] of [[a, 0.9, 1.5], [c, 3.9, 1.15], [a, 2.3, 0.9]]) {
      const angle = turn + this.#drift * 0.35;
      const x = middle + Math.cos(angle) * radius * 0.8;
      const y = middle + Math.sin(angle) * radius * 0.8;
      g.fillStyle = fade(g, color, x, y, 0, radius * reach);
      g.fillRect(0, 0, middle * 2, middle * 2);
    }
    g.globalAlpha = 0.35;
    g.fillStyle = fade(g, '#ffffff', middle - radius * 0.35, middle - radius * 0.5, 0, radius * 0.9);
    g.fillRect(0, 0, middle * 2, middle * 2);
    g.restore();
  }

  #outline(g, middle, radius, turn) {
    const wave = still.matches ? 0 : 0.018 + this.#agent * 0.075;
    for (let i = 0; i <= 120; i++) {
      const angle = (i / 120) * Math.PI * 2;
      const swell = Math.sin(angle * 2 + this.#drift * 1.3 + turn) + 0.6 * Math.sin(angle * 3 - this.#drift * 1.9 + turn * 2);
      const r = radius * (1 + wave * swell);
      g.lineTo(middle + Math.cos(angle) * r, middle + Math.sin(angle) * r);
    }
    g.closePath();
  }
}

// fade returns a round gradient from color to nothing. Colors are #rrggbb: to
// fade to "transparent" would pass through grey.
function fade(g, color, x, y, from, to) {
  const gradient = g.createRadialGradient(x, y, from, x, y, to);
  gradient.addColorStop(0, color);
  gradient.addColorStop(1, color + '00');
  return gradient;
}
