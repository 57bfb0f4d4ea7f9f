import t from 'tap'
import { imageName } from '../../src/names.js'
import { defaultIqnPrefix } from '../../src/settings.js'
import { TestSite } from '../support/broker.js'
import { rbdJson, run, testCluster } from '../support/cluster.js'
import { golden } from '../support/golden.js'

t.test('storage.delete', async t => {
  const site = await TestSite.open(t)
  const { name: imageId } = await golden(t, site)
  const poolName = site.environment.CEPH_DEFAULT_POOL
  await site.startAgent()
  const newVolume = async (tenantId = 'acme') =>
    (await site.succeed(site.job('storage.create', { name: 'web', imageId, sizeMB: 8 }, { tenantId }))).disk
  const remove = (refId: string, rest: object = {}) => site.job('storage.delete', { refId, ...rest })
  const exists = async (name: string) => (await site.imageNames()).includes(name)

  await t.test('removes a volume by its iqn', async t => {
    const { name, refId } = await newVolume()
    t.same(await site.succeed(remove(refId, { sizeMB: 8 })), {
      refId,
      targetDeleted: false,
      deletedDisks: [{ pool: poolName, image: name }],
      sizeMB: 8,
    })
    t.notOk(await exists(name))
    t.equal((await run('rbd', 'trash', 'ls', '--all', poolName ?? '')).trim(), '', 'nor is it in the trash')
  })

  await t.test('removes a volume by its name, under the other names of all things', async t => {
    const { name } = await newVolume()
    const answer = await site.succeed(site.job('disk.delete', { iqn: name, pool: poolName, sizeMb: 8 }))
    t.same(answer.deletedDisks, [{ pool: poolName, image: name }])
    t.notOk(await exists(name))
  })

  await t.test('says so when there is nothing to remove', async t => {
    const { name, refId } = await newVolume()
    await site.succeed(remove(refId))
    const nothing = { targetDeleted: false, deletedDisks: [] }
    t.same(await site.succeed(remove(refId)), { refId, ...nothing })
    t.same(await site.succeed(remove(name)), { refId: name, ...nothing })
    t.same(await site.succeed(remove('never-was')), { refId: 'never-was', ...nothing })
  })

  await t.test('removes it once when the job comes three times at once', async t => {
    const { name } = await newVolume()
    const job = remove(name)
    const answers = await Promise.all([site.succeed(job), site.succeed(job), site.succeed(job)])
    t.ok(answers.some(({ deletedDisks }) => deletedDisks.length === 1))
    t.notOk(await exists(name))
  })

  await t.test('refuses what does not carry the stamp of this agent', async t => {
    const foreign: Record<string, () => Promise<string>> = {
      'an image without one': async () => {
        await run('rbd', 'create', `${poolName}/theirs`, '--size', '8M')
        return 'theirs'
      },
      'a clone of a volume, which RBD gives the same metadata': async () => {
        const { name } = await newVolume()
        await run('rbd', 'snap', 'create', '--no-progress', `${poolName}/${name}@s`)
        await run('rbd', 'snap', 'protect', `${poolName}/${name}@s`)
        await run('rbd', 'clone', `${poolName}/${name}@s`, `${poolName}/their-clone`)
        const meta = await run('rbd', 'image-meta', 'list', `${poolName}/their-clone`)
        t.match(meta, /cephkit\.stamp/, 'RBD did')
        return 'their-clone'
      },
      'a volume of another agent': async () => {
        const { name } = await newVolume()
        const stamp = JSON.parse(await run('rbd', 'image-meta', 'get', `${poolName}/${name}`, 'cephkit.stamp'))
        const other = JSON.stringify({ ...stamp, agent: 'other' })
        await run('rbd', 'image-meta', 'set', `${poolName}/${name}`, 'cephkit.stamp', other)
        return name
      },
      'one with something else for a stamp': async () => {
        await run('rbd', 'create', `${poolName}/odd`, '--size', '8M')
        await run('rbd', 'image-meta', 'set', `${poolName}/odd`, 'cephkit.stamp', '{"agent":')
        return 'odd'
      },
      'a volume of another tenant': async () => (await newVolume('umbrella')).name,
    }
    for (const [what, make] of Object.entries(foreign)) {
      const name = await make()
      t.match(await site.perform(remove(name)), { ok: false, code: 'IMAGE_NOT_OURS', retryable: false }, what)
      t.ok(await exists(name), `${what}: it is still there`)
    }
  })

  await t.test('refuses a volume that is open, and names who has it open', async t => {
    const { name } = await newVolume()
    const pool = await site.volumePool()
    const image = await pool.openImage(name)
    const [watcher] = await image.watchers()
    const result = await site.perform(remove(name))
    t.match(result, { ok: false, code: 'IMAGE_BUSY', retryable: true })
    t.match(result.error, `${watcher?.address} (client.${watcher?.client})`)
    await image.close()
    t.match(await site.perform(remove(name)), { ok: true }, 'later it goes')
  })

  await t.test('refuses a volume that has clones, or snapshots, and names them', async t => {
    const { name } = await newVolume()
    const path = `${poolName}/${name}`
    await run('rbd', 'snap', 'create', '--no-progress', `${path}@kept`)
    t.match(await site.perform(remove(name)), { ok: false, code: 'IMAGE_HAS_SNAPSHOTS', error: /kept/ })
    await run('rbd', 'snap', 'protect', `${path}@kept`)
    await run('rbd', 'clone', `${path}@kept`, `${poolName}/child`)
    t.match(await site.perform(remove(name)), { ok: false, code: 'IMAGE_HAS_CHILDREN', error: `${poolName}/child` })
    t.ok(await exists(name))
  })

  /** What is left of an image when its removal is cut short: RBD lists it, and cannot open it by its name any more. */
  const cutShort = async (name: string) => {
    // One object at a time, so that there is a middle of it, however busy the machine is.
    const cluster = await testCluster(t, { options: { rbd_concurrent_management_ops: '1' } })
    const pool = await cluster.openPool(String(poolName))
    const { id } = await rbdJson('info', `${poolName}/${name}`)
    await run('rbd', 'bench', '--io-type', 'write', '--io-pattern', 'rand', '--io-total', '1M', `${poolName}/${name}`)
    const controller = new AbortController()
    const { signal } = controller
    await t.rejects(pool.removeImage(name, { signal, onProgress: () => controller.abort() }), { name: 'AbortError' })
    t.ok(await exists(name), 'it is still listed')
    await t.rejects(pool.openImage(name), { name: 'ImageNotFoundError' })
    return { id, pool }
  }
  const newLargeVolume = async (tenantId = 'acme') =>
    (await site.succeed(site.job('storage.create', { name: 'large', sizeMB: 1024 }, { tenantId }))).disk

  await t.test('finishes a removal that was cut short', async t => {
    const { name } = await newLargeVolume()
    await cutShort(name)
    t.match(await site.succeed(remove(name)), { deletedDisks: [{ pool: poolName, image: name }] })
    t.notOk(await exists(name))
    t.same(await site.succeed(remove(name)), { refId: name, targetDeleted: false, deletedDisks: [] })
  })

  await t.test('finishes a removal that was cut short when only the name was left', async t => {
    const { name } = await newLargeVolume()
    const { id, pool } = await cutShort(name)
    await pool.object(`rbd_header.${id}`).remove()
    t.match(await site.succeed(remove(name)), { deletedDisks: [{ image: name }] })
    t.notOk(await exists(name))
  })

  await t.test("does not finish somebody else's", async t => {
    const { name } = await newLargeVolume('umbrella')
    await run('rbd', 'create', `${poolName}/not-ours`, '--size', '1G')
    for (const each of [name, 'not-ours']) {
      await cutShort(each)
      t.match(await site.perform(remove(each)), { ok: false, code: 'IMAGE_NOT_OURS' })
      t.ok(await exists(each))
    }
  })

  await t.test('leaves alone what is listed and cannot be opened for another reason', async t => {
    const { name } = await newVolume()
    const { id } = await rbdJson('info', `${poolName}/${name}`)
    const pool = await site.volumePool()
    await pool.object(`rbd_header.${id}`).remove()
    t.match(await site.perform(remove(name)), { ok: false, code: 'IMAGE_NOT_OURS', error: /cannot be opened/ })
    t.ok(await exists(name))
  })

  await t.test('does not take a failure for absence', async t => {
    const { name } = await newVolume()
    const cases: Record<string, { data: object; code: string }> = {
      'a pool that is not there': { data: { refId: name, pool: 'no-such-pool' }, code: 'POOL_NOT_FOUND' },
      'an iqn of nothing': { data: { refId: 'iqn.2001-07.org.openhvx:' }, code: 'INVALID_JOB' },
      'a key that it does not know': { data: { refId: name, purge: true }, code: 'INVALID_JOB' },
      'no volume at all': { data: {}, code: 'INVALID_JOB' },
      'a path': { data: { refId: `${poolName}/${name}` }, code: 'INVALID_JOB' },
      'a name longer than any': { data: { refId: 'ä'.repeat(1021) }, code: 'INVALID_JOB' },
      'a name that is no text': { data: { refId: `${name}\ud800` }, code: 'INVALID_JOB' },
      'a pool that is no text': { data: { refId: name, pool: '\udfff' }, code: 'INVALID_JOB' },
    }
    for (const [what, { data, code }] of Object.entries(cases)) {
      t.match(await site.perform(site.job('storage.delete', data)), { ok: false, code }, what)
    }
    const longest = 'n'.repeat(2041)
    t.match(await site.perform(remove(longest)), { ok: true, result: { refId: longest } }, 'but a long one may be')
    t.ok(await exists(name))
  })

  await t.test('comes after the create that came before it', async t => {
    const create = site.job('storage.create', { name: 'short-lived', imageId, sizeMB: 8 })
    const name = imageName({ taskId: create.taskId, tenantId: 'acme', name: 'short-lived' }, defaultIqnPrefix)
    // Both are in hand at once, and on one image.
    const [made, gone] = await Promise.all([site.succeed(create), site.succeed(remove(name))])
    t.equal(made.disk.name, name)
    t.equal(gone.deletedDisks.length, 1)
    t.notOk(await exists(name))
    t.same(await site.succeed(create), made, 'the create, sent again, makes nothing again')
    t.notOk(await exists(name))
  })
})
