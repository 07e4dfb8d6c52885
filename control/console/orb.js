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

    const glow = g.createRadialGradient(middle, middle, radius * 0.6, middle, middle, size * 0.5);
    glow.addColorStop(0, c);
    glow.addColorStop(1, 'transparent');
    g.globalAlpha = 0.22 + this.#agent * 0.35;
    g.fillStyle = glow;
    g.fillRect(0, 0, size, size);

    const layers = [[a, 1.04, 0, 0.5], [b, 1.0, 2.1, 0.55], [c, 0.95, 4.2, 0.6]];
    for (const [color, scale, turn, alpha] of layers) {
      g.globalAlpha = alpha;
      g.fillStyle = this.#shade(g, color, b, middle, radius, turn);
      g.beginPath();
      this.#outline(g, middle, radius * scale, turn);
      g.fill();
    }

    g.globalAlpha = 0.18 + this.#mic * 0.6;
    g.strokeStyle = a;
    g.lineWidth = 2 + this.#mic * 5;
    g.beginPath();
    g.arc(middle, middle, size * (0.385 + this.#mic * 0.035), 0, Math.PI * 2);
    g.stroke();
    g.globalAlpha = 1;
  }

  #shade(g, from, to, middle, radius, turn) {
    const angle = this.#drift * 0.5 + turn;
    const x = Math.cos(angle) * radius;
    const y = Math.sin(angle) * radius;
    const shade = g.createLinearGradient(middle + x, middle + y, middle - x, middle - y);
    shade.addColorStop(0, from);
    shade.addColorStop(1, to);
    return shade;
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
