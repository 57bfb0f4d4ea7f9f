/** A flatten that was cut short between its last two steps leaves a clone of what is gone, which has all of its data. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { type Image, KiB, type Pool } from '../../lib/index.js'
import { rbdJson, testPool } from '../support/cluster.js'
import { beginFlatten, canBeOpened, cutOff, detachChild } from '../support/cut-off.js'

const objectSize = 64 * KiB
const objects = 16
const size = objects * objectSize
const victim = fileURLToPath(new URL('../support/cut-short-main.js', import.meta.url))

/** A clone, of format 2 unless told otherwise, of an image that has every other object. */
async function family(pool: Pool, name: string, cloneFormat: 1 | 2 = 2) {
  const parentName = `${name}-parent`
  await pool.createImage(parentName, { size, objectSize })
  const content = Buffer.alloc(size)
  {
    await using parent = await pool.openImage(parentName)
    for (let i = 0; i < objects; i += 2) {
      content.fill(1 + i, i * objectSize, (i + 1) * objectSize)
      await parent.write(i * objectSize, content.subarray(i * objectSize, (i + 1) * objectSize))
    }
    const base = await parent.createSnapshot('base', { protect: true })
    await pool.cloneImage(base, name, { cloneFormat })
  }
  return { parentName, content }
}

/** Into RBD's trash, from where librbd removes it with its last clone. */
async function dropSnapshot(pool: Pool, name: string): Promise<void> {
  await using parent = await pool.openImage(name)
  const base = parent.snapshot('base')
  await base.unprotect()
  await base.remove()
}

/** As a flatten leaves it: all that there is in the parent is copied. */
async function copyAll(clone: Image, content: Buffer): Promise<void> {
  for (let i = 0; i < objects; i += 2) {
    await clone.write(i * objectSize, content.subarray(i * objectSize, (i + 1) * objectSize))
  }
}

/** Kills a process that flattens it when the parent's snapshot goes. Tells whether the clone can be opened all the same. */
async function killAtEnd(pool: Pool, name: string, parentName: string): Promise<boolean> {
  await using parent = await pool.openImage(parentName, { readOnly: true })
  const child = spawn(process.execPath, [victim, 'flatten-all', pool.name, pool.namespace, name], { stdio: 'inherit' })
  const exit = once(child, 'exit')
  while (child.exitCode === null && (await parent.listSnapshots()).length > 0);
  child.kill('SIGKILL')
  await exit
  for (const { address } of await parent.watchers()) await pool.cluster.blocklist(address)
  return canBeOpened(pool, name)
}

t.test('one that was killed there is finished', async t => {
  const pool = await testPool(t)
  let hits = 0
  for (let i = 0; i < 100 && hits < 3; i++) {
    const name = `clone-${i}`
    const { parentName, content } = await family(pool, name)
    await dropSnapshot(pool, parentName)
    if (await killAtEnd(pool, name, parentName)) continue
    hits++
    await t.rejects(rbdJson('info', `${pool.path}/${name}`), 'nor can anybody else open it')
    t.equal(await pool.finishFlatten(name), true)
    await using image = await pool.openImage(name)
    t.equal(await image.parent(), null)
    t.ok((await image.read(0, size)).equals(content))
    t.equal(await image.usedBytes(), size / 2)
    t.same((await image.stat()).operationFeatures, [])
    t.notOk('parent' in (await rbdJson('info', image.path)))
    t.equal(await pool.finishFlatten(name), false, 'once')
  }
  t.equal(hits, 3)
})

t.test('by its id, with its snapshots, and also by several at once', async t => {
  const pool = await testPool(t)
  const { parentName, content } = await family(pool, 'clone')
  const clone = await pool.openImage('clone')
  const { id } = await clone.stat()
  await beginFlatten(clone)
  await copyAll(clone, content)
  await clone.createSnapshot('own')
  await dropSnapshot(pool, parentName)
  await cutOff(clone)
  t.notOk(await canBeOpened(pool, 'clone'))
  const results = await Promise.all([1, 2, 3].map(() => pool.finishFlattenById(id)))
  t.ok(results.includes(true))
  await using image = await pool.openImage('clone', { snapshot: 'own' })
  t.equal(await image.parent(), null)
  t.ok((await image.read(0, size)).equals(content))
})

t.test('by whoever comes to it in the middle of one that is alive', async t => {
  const pool = await testPool(t)
  let finished = 0
  for (let i = 0; i < 10 || (finished === 0 && i < 50); i++) {
    const name = `clone-${i}`
    const { parentName, content } = await family(pool, name)
    await dropSnapshot(pool, parentName)
    await using clone = await pool.openImage(name)
    const { id } = await clone.stat()
    let isOver = false
    const flattening = clone.flatten().finally(() => {
      isOver = true
    })
    while (!isOver) if (await pool.finishFlattenById(id)) finished++
    await flattening
    t.equal(await clone.parent(), null)
    t.ok((await clone.read(0, size)).equals(content))
  }
  t.ok(finished > 0)
})

for (const format of [1, 2] as const)
  t.test(`in format ${format}, when the parent was removed meanwhile`, async t => {
    const pool = await testPool(t)
    const { parentName, content } = await family(pool, 'clone', format)
    {
      await using clone = await pool.openImage('clone')
      await beginFlatten(clone)
      await copyAll(clone, content)
      await detachChild(clone)
    }
    t.equal(await pool.finishFlatten('clone'), false, 'as long as it can be opened, it can be flattened')
    await dropSnapshot(pool, parentName)
    await pool.removeImage(parentName)
    t.notOk(await canBeOpened(pool, 'clone'))
    t.equal(await pool.finishFlatten('clone'), true)
    await using image = await pool.openImage('clone')
    t.ok((await image.read(0, size)).equals(content))
  })

t.test('a clone that is only taken from the list of its parent is flattened again', async t => {
  const pool = await testPool(t)
  for (const format of [1, 2] as const) {
    const name = `clone-${format}`
    const { parentName, content } = await family(pool, name, format)
    if (format === 2) await dropSnapshot(pool, parentName)
    await using clone = await pool.openImage(name)
    await beginFlatten(clone)
    await detachChild(clone)
    await clone.flatten()
    t.equal(await clone.parent(), null)
    t.ok((await clone.read(0, size)).equals(content))
    await using parent = await pool.openImage(parentName, { readOnly: true })
    t.equal((await parent.listSnapshots()).length, format === 1 ? 1 : 0, 'and the trash emptied')
  }
})

t.test('nothing is finished where it is not certain that all is copied', async t => {
  const pool = await testPool(t)

  await t.test('of a flatten that has not come to its end', async t => {
    await family(pool, 'aborted')
    await using clone = await pool.openImage('aborted')
    await beginFlatten(clone)
    t.equal(await pool.finishFlatten('aborted'), false)
    t.ok(await clone.parent())
  })

  await t.test('where none was begun by this library', async t => {
    const { parentName } = await family(pool, 'robbed')
    await dropSnapshot(pool, parentName)
    await cutOff(await pool.openImage('robbed'))
    t.equal(await pool.finishFlatten('robbed'), false)
    t.notOk(await canBeOpened(pool, 'robbed'))
  })

  for (const format of [1, 2] as const)
    await t.test(
      `of a clone of format ${format} that was cut short when it was made, so that the parent does not list it`,
      async t => {
        const name = `half-${format}`
        const { parentName } = await family(pool, name, format)
        {
          await using clone = await pool.openImage(name)
          await detachChild(clone)
          await beginFlatten(clone)
        }
        await dropSnapshot(pool, parentName)
        t.equal(await pool.finishFlatten(name), false)
        t.notOk(await canBeOpened(pool, name))
      },
    )

  await t.test('where the pool of the parent is gone', async t => {
    const { cluster } = pool
    const poolName = `${pool.namespace}.parents`
    await cluster.createPool(poolName)
    await using parents = await cluster.openPool(poolName)
    await parents.createImage('parent', { size, objectSize })
    {
      await using parent = await parents.openImage('parent')
      await parent.write(0, Buffer.alloc(size, 'parent'))
      await pool.cloneImage(await parent.createSnapshot('base'), 'orphan', { cloneFormat: 2 })
      await using clone = await pool.openImage('orphan')
      await beginFlatten(clone)
    }
    await cluster.deletePool(poolName)
    t.equal(await pool.finishFlatten('orphan'), false)
    t.notOk(await canBeOpened(pool, 'orphan'))
  })

  await t.test('and of what is no clone, or not there', async t => {
    await pool.createImage('plain', { size })
    t.equal(await pool.finishFlatten('plain'), false)
    await t.rejects(pool.finishFlatten('missing'), { name: 'ImageNotFoundError', resource: `${pool.path}/missing` })
    await t.rejects(pool.finishFlattenById('missing'), { name: 'ImageNotFoundError' })
  })
})
