/** The calls that take their time, with a way to see from outside how far they got. */
import { type Feature, type Image, KiB, type Pool, type ProgressOptions } from '../../lib/index.js'
import { rbdJson, run } from './cluster.js'

const objectSize = 4 * KiB
const objects = 500
const size = objects * objectSize

/** An image of many small objects, each written with that byte. */
export async function full(pool: Pool, name: string, byte = 7, features?: Feature[]): Promise<Image> {
  await pool.createImage(name, { size, objectSize, features })
  const image = await pool.openImage(name)
  await fill(image, byte)
  return image
}

async function fill(image: Image, byte: number): Promise<void> {
  await image.write(0, Buffer.alloc(size, byte))
  await image.flush()
}

/** How many objects hold data, of the image of that prefix. */
async function dataObjects(pool: Pool, prefix: string): Promise<number> {
  const names = await run('rados', '-p', 'rbd', '-N', pool.namespace, 'ls')
  return names.split('\n').filter(name => name.startsWith(prefix)).length
}

/** How much of a copy there is, in parts of 1. */
const copied = async (pool: Pool, name: string) =>
  (await dataObjects(pool, (await rbdJson('info', `${pool.path}/${name}`)).block_name_prefix)) / objects

export interface LongCall {
  /** What there has to be before; answers the call. */
  prepare(pool: Pool): Promise<(options: ProgressOptions) => Promise<unknown>>
  /** Looks afterwards how much of the work was done, in parts of 1. */
  done(pool: Pool): Promise<number>
}

/** One that ends with all objects of an image gone, whose prefix is known before. */
function removing(
  prepare: (pool: Pool, image: Image) => Promise<(options: ProgressOptions) => Promise<unknown>>,
): LongCall {
  let prefix = ''
  return {
    async prepare(pool) {
      const image = await full(pool, 'disk', 0)
      prefix = (await image.stat()).blockNamePrefix
      return prepare(pool, image)
    },
    done: async pool => 1 - (await dataObjects(pool, prefix)) / objects,
  }
}

/** What an abort stops. */
export const stopped: Record<string, LongCall> = {
  'image.resize': removing(async (_, image) => options => image.resize(0, { allowShrink: true, ...options })),
  'image.sparsify': removing(async (_, image) => options => image.sparsify(options)),
  'pool.removeImage': removing(async (pool, image) => {
    await image.close()
    return options => pool.removeImage('disk', options)
  }),
  'pool.trash.remove': removing(async (pool, image) => {
    const { id } = await image.stat()
    await image.close()
    await pool.trash.move('disk')
    return options => pool.trash.remove(id, options)
  }),
  'image.flatten': {
    async prepare(pool) {
      const golden = await full(pool, 'golden')
      await pool.cloneImage(await golden.createSnapshot('base'), 'disk', { cloneFormat: 2 })
      const image = await pool.openImage('disk')
      return options => image.flatten(options)
    },
    done: pool => copied(pool, 'disk'),
  },
  'image.rebuildObjectMap': {
    async prepare(pool) {
      const image = await full(pool, 'disk')
      await image.disableFeatures(['fast-diff', 'object-map'])
      await image.enableFeatures(['fast-diff', 'object-map'])
      return options => image.rebuildObjectMap(options)
    },
    done: async pool => ((await rbdJson('info', `${pool.path}/disk`)).flags.length === 0 ? 1 : 0),
  },
  'snapshot.rollback': {
    async prepare(pool) {
      const image = await full(pool, 'disk', 1)
      const snapshot = await image.createSnapshot('one')
      await fill(image, 2)
      return options => snapshot.rollback(options)
    },
    async done(pool) {
      await using image = await pool.openImage('disk')
      const data = await image.read(0, size)
      return Array.from({ length: objects }).filter((_, i) => data[i * objectSize] === 1).length / objects
    },
  },
  'snapshot.remove with its clones': {
    async prepare(pool) {
      const image = await full(pool, 'disk')
      const snapshot = await image.createSnapshot('one', { protect: true })
      for (const name of ['first', 'second']) await pool.cloneImage(snapshot, name)
      return options => snapshot.remove({ unprotect: true, flattenClones: true, ...options })
    },
    done: async pool => 1 - (await rbdJson('snap', 'ls', `${pool.path}/disk`)).length,
  },
}

const trashed = 20

/** What goes on when its caller has stopped waiting. */
export const unstoppable: Record<string, LongCall> = {
  'image.copy': {
    async prepare(pool) {
      const image = await full(pool, 'disk')
      return options => image.copy(pool, 'copy', options)
    },
    done: pool => copied(pool, 'copy'),
  },
  'image.deepCopy': {
    async prepare(pool) {
      const image = await full(pool, 'disk')
      return options => image.deepCopy(pool, 'copy', options)
    },
    done: pool => copied(pool, 'copy'),
  },
  'image.createSnapshot': {
    async prepare(pool) {
      const image = await full(pool, 'disk')
      return options => image.createSnapshot('one', { protect: true, ...options })
    },
    done: async pool => (await rbdJson('snap', 'ls', `${pool.path}/disk`)).length,
  },
  'pool.trash.purge': {
    async prepare(pool) {
      for (let i = 0; i < trashed; i++) {
        await pool.createImage(`disk-${i}`, { size })
        await pool.trash.move(`disk-${i}`)
      }
      const expiredBefore = new Date(Date.now() + 60_000)
      return options => pool.trash.purge({ expiredBefore, ...options })
    },
    done: async pool => 1 - (await rbdJson('trash', 'ls', pool.path)).length / trashed,
  },
}
