/** The rates of the part io over queue depth, as an SVG. */
import type { Row } from './harness.js'

interface Point {
  depth: number
  /** IOPS */
  rate: number
}

interface Panel {
  title: string
  /** By the client's name. */
  series: Map<string, Point[]>
}

/** Of a panel's plot, in pixels. */
const plot = { width: 330, height: 250 }
const margin = { left: 64, top: 74, between: 62, right: 24, bottom: 84 }
const width = margin.left + plot.width + margin.between + plot.width + margin.right
const height = margin.top + plot.height + margin.bottom

/** Colours that are told apart whatever one sees of them, and shapes for who sees none. */
const clients = [
  { name: 'cephkit', light: '#0060a8', dark: '#5cb3ff', shape: 'M-4-4h8v8h-8z' },
  { name: 'fio', light: '#b84a00', dark: '#ff9d5c', shape: 'M0-5l5 9h-10z' },
  { name: 'python3-rbd', light: '#00734c', dark: '#4fd1a1', shape: 'M0-5l5 5l-5 5l-5-5z' },
] as const

const style = `
  svg { font: 12px system-ui, sans-serif }
  .paper { fill: #fff } text { fill: #24292f } .grid { stroke: #d0d7de } .caption { fill: #57606a; font-size: 11px }
  .title { font-size: 15px; font-weight: 600 } .panel { font-weight: 600 }
  .end { text-anchor: end } .middle { text-anchor: middle } .line { fill: none; stroke-width: 2 }
  ${clients.map(({ light }, i) => `.s${i} { fill: ${light}; stroke: ${light} }`).join(' ')}
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } text { fill: #e6edf3 } .grid { stroke: #3d444d } .caption { fill: #9198a1 }
    ${clients.map(({ dark }, i) => `.s${i} { fill: ${dark}; stroke: ${dark} }`).join(' ')}
  }
  .line { fill: none }`

/**
 * @param rows - Those of other parts are left out.
 * @param caption - Lines for below it: what the figures are from.
 */
export function toChart(rows: readonly Row[], caption: readonly string[]): string {
  const panels = ['4 KiB random read', '4 KiB random write'].map(title => panelOf(title, rows))
  const lines = caption.map((line, i) => text(margin.left, height - 26 + 14 * i, line, 'caption'))
  const bottom = height + 14 * (caption.length - 1)
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${bottom}" width="${width}" height="${bottom}" role="img">
<title>IOPS over queue depth</title>
<style>${style}
</style>
<rect class="paper" width="100%" height="100%"/>
${text(margin.left, 26, 'Operations per second over queue depth', 'title')}
${clients.map(legend).join('\n')}
${panels.map((panel, i) => draw(panel, margin.left + i * (plot.width + margin.between))).join('\n')}
${lines.join('\n')}
</svg>
`
}

function panelOf(title: string, rows: readonly Row[]): Panel {
  const series = new Map<string, Point[]>()
  const add = (name: string, point: Point) => {
    const points = series.get(name) ?? []
    if (!points.some(({ depth }) => depth === point.depth)) points.push(point)
    series.set(name, points)
  }
  for (const { load, metric, ours, peer, peerName } of rows) {
    const depth = Number(load.split(`${title}, depth `)[1])
    if (metric !== 'rate' || Number.isNaN(depth)) continue
    add('cephkit', { depth, rate: ours })
    add(peerName, { depth, rate: peer })
  }
  return { title, series }
}

function draw({ title, series }: Panel, left: number): string {
  const points = [...series.values()].flat()
  const depths = [...new Set(points.map(({ depth }) => depth))].sort((a, b) => a - b)
  const step = stepOf(Math.max(...points.map(({ rate }) => rate), 1))
  const steps = Math.ceil(Math.max(...points.map(({ rate }) => rate), 1) / step)
  const widest = Math.log2(Math.max(...depths, 2))
  const x = (depth: number) => left + (Math.log2(depth) / widest) * plot.width
  const y = (rate: number) => margin.top + plot.height * (1 - rate / (steps * step))
  const grid = Array.from({ length: steps + 1 }, (_, i) => i * step).map(rate => {
    const line = `<path class="grid" d="M${round(left)} ${round(y(rate))}h${plot.width}"/>`
    return line + text(left - 8, y(rate) + 4, rate.toLocaleString('en'), 'end')
  })
  const bottom = margin.top + plot.height
  return [
    text(left, margin.top - 14, `${title}, IOPS`, 'panel'),
    ...grid,
    ...depths.map(depth => text(x(depth), bottom + 18, String(depth), 'middle')),
    text(left + plot.width / 2, bottom + 36, 'queue depth (requests in flight)', 'middle'),
    ...clients.map(({ name, shape }, i) => {
      const places = (series.get(name) ?? []).map(({ depth, rate }) => `${round(x(depth))} ${round(y(rate))}`)
      if (places.length === 0) return ''
      const marks = places.map(place => `<path class="s${i}" transform="translate(${place})" d="${shape}"/>`)
      return `<path class="s${i} line" d="M${places.join('L')}"/>${marks.join('')}`
    }),
  ].join('\n')
}

/** A round number that goes into the largest value three to seven times. */
function stepOf(largest: number): number {
  const power = 10 ** Math.floor(Math.log10(largest / 3))
  return [5, 2, 1].map(factor => factor * power).find(step => largest / step >= 3) ?? power
}

function legend({ name, shape }: (typeof clients)[number], i: number): string {
  const x = width - margin.right - 300 + i * 100
  return `<path class="s${i}" transform="translate(${x} 22)" d="${shape}"/>${text(x + 12, 26, name, '')}`
}

function text(x: number, y: number, content: string, style: string): string {
  const escaped = content.replace(/[&<>]/g, character => `&#${character.charCodeAt(0)};`)
  return `<text x="${round(x)}" y="${round(y)}" class="${style}">${escaped}</text>`
}

function round(value: number): number {
  return Number(value.toFixed(1))
}
