/**
 * Not a test: what the tests here run in a process, or a worker thread, of its own. Lives up to a stage, and ends there.
 *
 *   node life.js STAGE ENDING
 */
import { parentPort, workerData } from 'node:worker_threads'
import { Cluster, MiB } from '../../lib/index.js'

export const stages = [
  'loaded',
  'connecting',
  'connected',
  'pool open',
  'image opening',
  'image open',
  'many images open',
  'I/O in flight',
  'blocking calls in flight',
  'progress being reported',
  'watch open',
  'image closing',
  'cluster closing',
  'cluster closed',
] as const
/** The last one is for worker threads only, which can be ended from outside. */
export type Stage = (typeof stages)[number] | 'listener running'

export const endings = ['process.exit', 'exception', 'end of program'] as const
export type Ending = (typeof endings)[number]

/** Comes back at the stage, with nothing closed before it that it does not name. */
async function live(stage: Stage): Promise<void> {
  if (stage === 'loaded') return
  const connecting = Cluster.connect()
  if (stage === 'connecting') return void connecting.catch(() => {})
  const cluster = await connecting
  if (stage === 'connected') return
  const pool = await cluster.openPool('rbd', { namespace: process.env.LIFE_NAMESPACE })
  if (stage === 'pool open') return
  const opening = pool.openImage('disk')
  if (stage === 'image opening') return void opening.catch(() => {})
  const image = await opening
  switch (stage) {
    case 'many images open':
      await Promise.all(Array.from({ length: 32 }, () => pool.openImage('disk', { readOnly: true })))
      return
    case 'I/O in flight':
      for (let i = 0; i < 100; i++) {
        image.read((i * 64 * 1024) % (64 * MiB), 64 * 1024).catch(() => {})
        image.write(i * 4096, Buffer.alloc(4096, i)).catch(() => {})
      }
      return
    case 'blocking calls in flight':
      for (let i = 0; i < 100; i++) pool.createImage(`${process.pid}-${i}`, { size: MiB }).catch(() => {})
      return
    case 'progress being reported':
      await new Promise<void>(resolve => {
        image.resize(MiB, { allowShrink: true, onProgress: () => resolve() }).catch(() => {})
      })
      return
    case 'watch open': {
      await pool.object('watched').writeFull('')
      const watch = await pool.object('watched').watch(() => {})
      // It would keep the program alive.
      if (process.argv[3] === 'end of program') await watch.close()
      return
    }
    case 'listener running':
      await pool.object('watched').writeFull('')
      await pool.object('watched').watch(() => {
        parentPort?.postMessage(stage)
        for (;;);
      })
      await pool.object('watched').notify('')
      return
    case 'image closing':
      void image.close()
      return
    case 'cluster closing':
      void cluster.close()
      return
    case 'cluster closed':
      await cluster.close()
      return
  }
}

const [stage, ending] = (workerData ?? process.argv.slice(2)) as [Stage, Ending]
if (stage) {
  await live(stage)
  parentPort?.postMessage(stage)
  if (ending === 'process.exit') process.exit(3)
  if (ending === 'exception') throw new Error('on purpose')
}
