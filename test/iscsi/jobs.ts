/** What jobs do about targets, through an agent, as initiators see it. */
import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { MiB } from '../../lib/index.js'
import { type Inventory, readConfig } from '../../src/agent/index.js'
import { listAllExposures } from '../../src/iscsi/exposure.js'
import { actionOf } from '../../src/jobs/actions.js'
import type { JobMessage } from '../../src/jobs/message.js'
import { type Job, TestSite, until } from '../support/broker.js'
import { run } from '../support/cluster.js'
import { golden, testFolder } from '../support/golden.js'
import { newRecord, openRecords } from '../support/journal.js'
import { Attached, capacity, discover, identity, initiator, Tgt } from '../support/tgt.js'

const user = 'settings-user'
const password = 'settings-pass-1'
const login = `${user}%${password}`
const settings = { CEPH_TARGET_USER: user, CEPH_TARGET_PASSWORD: password, CEPH_GW_ISCSI_HOST: 'gateway-1' }

async function start(t: Test, given: Record<string, string> = {}) {
  const site = await TestSite.open(t)
  const tgt = await Tgt.start(t)
  const agent = await site.startAgent({ ...tgt.environment, ...given })
  return { site, tgt, agent, pool: site.environment.CEPH_DEFAULT_POOL ?? '' }
}

t.test('storage.create and storage.delete of exposed volumes', async t => {
  const { site, tgt, pool } = await start(t, settings)
  const { name: imageId } = await golden(t, site)
  const create = (name: string) => site.succeed(site.job('storage.create', { name, imageId, sizeMB: 16 }))

  await t.test('a create exposes the volume, with the password of the settings', async t => {
    const { disk, targetExisted } = await create('web')
    t.equal(targetExisted, false)
    t.same(await discover(tgt), [disk.refId])
    t.equal(await capacity(tgt.url(disk.refId, { login })), 16 * MiB)
    await t.rejects(capacity(tgt.url(disk.refId)), 'not without it')
    t.equal(
      (await identity(tgt.url(disk.refId, { login }))).serial,
      disk.id,
      'the serial number is the id of the image',
    )
  })

  await t.test('a name with an underscore, which iSCSI has not', async t => {
    const { disk } = await create('my_vm')
    t.match(disk.refId, /^iqn\.2001-07\.org\.openhvx:acme-my:vm-[0-9a-f]{8}$/)
    t.match(disk.name, /^acme-my_vm-/)
    t.equal(await capacity(tgt.url(disk.refId, { login })), 16 * MiB)
    t.match(await site.succeed(site.job('storage.delete', { refId: disk.refId })), {
      targetDeleted: true,
      deletedDisks: [{ image: disk.name }],
    })
  })

  await t.test('a create that comes three times exposes once', async t => {
    const job = site.job('storage.create', { name: 'again', imageId, sizeMB: 16 })
    const [first, ...later] = await Promise.all([site.succeed(job), site.succeed(job), site.succeed(job)])
    for (const answer of later) t.same(answer, first)
    t.same(await site.succeed(job), first)
    t.equal((await tgt.names()).filter(name => name === first.disk.refId).length, 1)
  })

  await t.test('what an initiator writes is in the volume', async t => {
    const { disk } = await create('written')
    const file = join(await testFolder(t), 'system.raw')
    await run('truncate', '-s', '16M', file)
    await run('/sbin/mke2fs', '-q', '-F', file)
    // All of it is written: tgtd is slow with what is to be zeroes.
    await run('qemu-img', 'convert', '-S', '0', '-n', '-f', 'raw', '-O', 'raw', file, tgt.url(disk.refId, { login }))
    const copy = join(await testFolder(t), 'copy.raw')
    await run('rbd', 'export', '--no-progress', `${pool}/${disk.name}`, copy)
    await t.resolves(run('cmp', file, copy))
    await t.resolves(run('/sbin/e2fsck', '-fn', copy))
  })

  await t.test('a delete takes the target away, and then the volume', async t => {
    const { disk } = await create('gone')
    const job = site.job('storage.delete', { refId: disk.refId })
    const result = { refId: disk.refId, targetDeleted: true, deletedDisks: [{ pool, image: disk.name }] }
    t.same(await site.succeed(job), result)
    t.same(await site.succeed(job), result, 'and says so again')
    t.notOk((await tgt.names()).includes(disk.refId))
    t.notOk((await site.imageNames()).includes(disk.name))
    t.match(await site.succeed(site.job('storage.delete', { refId: disk.refId })), {
      targetDeleted: false,
      deletedDisks: [],
    })
  })

  await t.test('a delete refuses while an initiator is logged in, and can be forced', async t => {
    const { disk } = await create('busy')
    const attached = await Attached.open(t, tgt.url(disk.refId, { login }))
    const refused = await site.perform(site.job('storage.delete', { refId: disk.refId }))
    t.match(refused, {
      ok: false,
      code: 'TARGET_BUSY',
      retryable: true,
      blockers: [{ kind: 'initiator', name: /^iqn/ }],
      rollback: { complete: true },
    })
    t.equal((refused.blockers ?? []).length, 1, 'that tgtd has the image open is not in the way')
    t.match(await attached.do('write -P 3 0 4k'), /wrote 4096/, 'and the initiator notices nothing')
    t.match(await site.succeed(site.job('storage.delete', { refId: disk.refId, force: true })), { targetDeleted: true })
    t.notOk((await site.imageNames()).includes(disk.name))
  })

  await t.test('a delete that fails leaves the volume exposed', async t => {
    const { disk } = await create('kept')
    await run('rbd', 'snap', 'create', '--no-progress', `${pool}/${disk.name}@theirs`)
    const before = await identity(tgt.url(disk.refId, { login }))
    const refused = await site.perform(site.job('storage.delete', { refId: disk.refId }))
    t.match(refused, { ok: false, code: 'IMAGE_HAS_SNAPSHOTS', rollback: { complete: true } })
    t.same(await identity(tgt.url(disk.refId, { login })), before)
  })

  await t.test('inventories tell what is exposed, and to whom', async t => {
    const { disk } = await create('listed')
    const volume = async () => {
      const { inventory } = await site.succeed(site.job('inventory.refresh', {}))
      return inventory.volumes.find(({ refId }: { refId: string }) => refId === disk.name)
    }
    const portal = { host: 'gateway-1', ip: '127.0.0.1', port: tgt.port }
    t.match(await volume(), { iqn: disk.refId, portal, isAttached: false })
    const attached = await Attached.open(t, tgt.url(disk.refId, { login }))
    t.match(await volume(), { iqn: disk.refId, isAttached: true })
    await attached.close()
    await until('the end of the session', async () => (await volume()).isAttached === false)
    await site.succeed(site.job('storage.unexpose', { refId: disk.refId }))
    t.match(await volume(), { isAttached: false, iqn: undefined, portal: undefined })
  })

  await t.test('a clone is exposed, too', async t => {
    const { disk } = await create('source')
    const clone = await site.succeed(site.job('storage.clone', { refId: disk.refId, name: 'clone' }))
    t.equal(await capacity(tgt.url(clone.disk.refId, { login })), 16 * MiB)
    const serials = [disk, clone.disk].map(({ refId }) => identity(tgt.url(refId, { login })))
    const [one, other] = await Promise.all(serials)
    t.not(one?.serial, other?.serial)
    t.not(one?.page83, other?.page83)
  })

  await t.test('a resize is seen by initiators, and those of other targets notice nothing', async t => {
    const { disk } = await create('grown')
    const beside = await create('beside')
    const neighbour = await Attached.open(t, tgt.url(beside.disk.refId, { login }))
    const user = await Attached.open(t, tgt.url(disk.refId, { login }))
    await user.do('write -P 7 0 64k')
    const sessions = await tgt.adm('conn', 'show', '--tid', await tidOf(tgt, beside.disk.refId))
    t.match(await site.succeed(site.job('storage.resize', { refId: disk.refId, sizeMB: 32 })), { sizeBytes: 32 * MiB })
    t.equal(await capacity(tgt.url(disk.refId, { login })), 32 * MiB)
    t.match(await user.do('read -P 7 0 64k'), /^read 65536/m)
    t.match(await neighbour.do('write -P 1 0 4k'), /wrote 4096/)
    t.equal(await tgt.adm('conn', 'show', '--tid', await tidOf(tgt, beside.disk.refId)), sessions)
    await user.close()
    const shrink = { refId: disk.refId, sizeMB: 8, allowShrink: true }
    await site.succeed(site.job('storage.resize', shrink))
    t.equal(await capacity(tgt.url(disk.refId, { login })), 8 * MiB)
  })

  await t.test('a volume is rolled back while nobody is logged in', async t => {
    const { disk } = await create('rolled')
    const snapshot = { refId: disk.refId, snapshot: 'before' }
    await site.succeed(site.job('storage.snapshot.create', snapshot))
    const attached = await Attached.open(t, tgt.url(disk.refId, { login }))
    await attached.do('write -P 9 0 64k')
    t.match(await site.perform(site.job('storage.snapshot.rollback', snapshot)), { ok: false, code: 'TARGET_BUSY' })
    await attached.close()
    await until('the end of the session', async () => {
      const { ok } = await site.perform(site.job('storage.snapshot.rollback', snapshot))
      return ok
    })
    const later = await Attached.open(t, tgt.url(disk.refId, { login }))
    t.match(await later.do('read -P 9 0 64k'), /Pattern verification failed/, 'initiators see what was before')
  })

  await t.test('no log, no result and no record of the journal has the password of the settings', async t => {
    t.notOk(site.logText.join('').includes(password))
    t.notOk(JSON.stringify(site.results.map(({ body }) => body)).includes(password))
    t.notOk((await showJobs(site)).includes(password))
  })
})

async function tidOf(tgt: Tgt, iqn: string): Promise<string> {
  const [, tid = ''] = new RegExp(`^Target (\\d+): ${iqn}$`, 'm').exec(await tgt.adm('target', 'show')) ?? []
  return tid
}

t.test('storage.expose and storage.unexpose', async t => {
  const { site, tgt } = await start(t)
  const { disk } = await site.succeed(site.job('storage.create', { name: 'disk', sizeMB: 16 }))
  const refId = disk.refId
  const url = tgt.url(refId)
  const portals = [{ ip: '127.0.0.1', port: tgt.port }]

  await t.test('says to whom it is exposed', async t => {
    const answer = await site.succeed(site.job('storage.expose', { refId, initiators: [initiator] }))
    t.same(answer, { refId, iqn: refId, portals, lun: 1 })
    t.equal(await capacity(url), 16 * MiB)
    t.notOk((await discover(tgt, 'iqn.2001-07.org.openhvx:another')).includes(refId))
  })

  await t.test('takes the names of initiators however they are written', async t => {
    const written = initiator.toUpperCase().replace('IQN', 'Iqn')
    await site.succeed(site.job('storage.expose', { refId, initiators: [written] }))
    t.equal(await capacity(url), 16 * MiB)
    t.match(await tgt.adm('target', 'show'), new RegExp(`ACL information:\n +${initiator}\n`))
    const { targetDeleted } = await site.succeed(
      site.job('storage.unexpose', { refId, initiators: [written.toLowerCase(), written] }),
    )
    t.equal(targetDeleted, true)
    await site.succeed(site.job('storage.expose', { refId, initiators: [initiator] }))
  })

  await t.test('changes nothing that it is not told to change', async t => {
    const chap = { user: 'for-this-one', password: 'for-this-one-1' }
    await site.succeed(site.job('storage.expose', { refId: disk.name, chap }))
    t.notOk((await discover(tgt, 'iqn.2001-07.org.openhvx:another')).includes(refId), 'it is for the same initiators')
    await t.rejects(capacity(url))
    t.equal(await capacity(tgt.url(refId, { login: `${chap.user}%${chap.password}` })), 16 * MiB)
    await site.succeed(site.job('storage.expose', { refId, chap: false }))
    t.equal(await capacity(url), 16 * MiB)
  })

  await t.test('takes both passwords', async t => {
    const chap = {
      user: 'one-of-two',
      password: 'one-of-two-pw',
      mutual: { user: 'two-of-two', password: 'two-of-two-pw' },
    }
    await site.succeed(site.job('storage.expose', { refId, chap }))
    const both = `${tgt.url(refId, { login: `${chap.user}%${chap.password}` })}?target_user=${chap.mutual.user}`
    t.equal(await capacity(`${both}&target_password=${chap.mutual.password}`), 16 * MiB)
    await t.rejects(capacity(`${both}&target_password=something-else1`))
    await site.succeed(site.job('storage.expose', { refId, chap: false }))
  })

  await t.test('takes initiators away one by one, and then the target', async t => {
    const two = ['iqn.2001-07.org.openhvx:a', 'iqn.2001-07.org.openhvx:b']
    await site.succeed(site.job('storage.expose', { refId, initiators: two }))
    const first = await site.succeed(site.job('storage.unexpose', { refId, initiators: [two[0]] }))
    t.same(first, { refId, iqn: refId, portals, lun: 1, targetDeleted: false })
    t.same(await discover(tgt, two[0]), [])
    t.same(await discover(tgt, two[1]), [refId])
    const last = site.job('storage.unexpose', { refId, initiators: two })
    t.same(await site.succeed(last), { refId, iqn: refId, portals: [], lun: 1, targetDeleted: true })
    t.same(
      await site.succeed(last),
      { refId, iqn: refId, portals: [], lun: 1, targetDeleted: true },
      'and says so again',
    )
    t.same(await tgt.names(), [])
    const again = await site.succeed(site.job('storage.unexpose', { refId }))
    t.same(again, { refId, iqn: refId, portals: [], lun: 1, targetDeleted: false })
    const { inventory } = await site.succeed(site.job('inventory.refresh', {}))
    t.notOk('iqn' in inventory.volumes[0], 'nor is it in the inventory')
    await site.succeed(site.job('storage.expose', { refId }))
    t.equal(await capacity(url), 16 * MiB, 'and can be exposed again, to everybody')
    t.match(await site.perform(site.job('storage.unexpose', { refId, initiators: two })), { code: 'EXPOSED_TO_ALL' })
  })

  await t.test('does not unexpose while an initiator is logged in, unless forced', async t => {
    await Attached.open(t, url)
    t.match(await site.perform(site.job('storage.unexpose', { refId })), { ok: false, code: 'TARGET_BUSY' })
    t.equal(await capacity(url), 16 * MiB)
    t.match(await site.succeed(site.job('storage.unexpose', { refId, force: true })), { targetDeleted: true })
    t.same(await tgt.names(), [])
    await site.succeed(site.job('storage.expose', { refId }))
  })

  await t.test('an expose that fails leaves all as it was', async t => {
    const chap = { user: 'taken-user', password: 'first-password' }
    const other = await site.succeed(site.job('storage.create', { name: 'other', sizeMB: 16 }))
    await site.succeed(site.job('storage.expose', { refId: other.disk.refId, chap }))
    const failed = await site.perform(
      site.job('storage.expose', { refId, chap: { ...chap, password: 'second-password' } }),
    )
    t.match(failed, { ok: false, code: 'CHAP_USER_TAKEN', retryable: false, rollback: { complete: true } })
    t.notOk(JSON.stringify(failed).includes('second-password'))
    t.equal(await capacity(url), 16 * MiB)
    t.equal(await capacity(tgt.url(other.disk.refId, { login: `${chap.user}%${chap.password}` })), 16 * MiB)
  })

  await t.test('refuses what makes no sense, and repeats no password', async t => {
    const refused: Record<string, { data: object; error: RegExp }> = {
      'a name that is none': { data: { initiators: ['iqn.bad name'] }, error: /initiators.0: must be the name/ },
      'an address with a zone of any length': {
        data: { addresses: [`fe80::1%${'x'.repeat(64)}`] },
        error: /addresses.0: must be at most 64 characters/,
      },
      'an address that is none': { data: { addresses: ['300.1.1.1'] }, error: /addresses.0: must be an IP address/ },
      'a network that begins with zeroes': { data: { addresses: ['0.0.0.0/1'] }, error: /addresses.0/ },
      'and one of version 6': { data: { addresses: ['0::/16'] }, error: /addresses.0/ },
      'a network that is none': { data: { addresses: ['10.0.0.1/8'] }, error: /addresses.0/ },
      'a password that is too short': { data: { chap: { user: 'long-enough', password: 'pw-secret' } }, error: /chap/ },
      'a target that shows the password of its initiators': {
        data: {
          chap: {
            user: 'long-enough',
            password: 'pw-secret-123',
            mutual: { user: 'another-user', password: 'pw-secret-123' },
          },
        },
        error: /mutual/,
      },
      'an unknown key': { data: { lun: 3 }, error: /lun: unknown key/ },
    }
    for (const [what, { data, error }] of Object.entries(refused)) {
      const result = await site.perform(site.job('storage.expose', { refId, ...data }))
      t.match(result, { ok: false, code: 'INVALID_JOB', error }, what)
      t.notOk(JSON.stringify(result).includes('pw-secret'), what)
    }
    t.match(await site.perform(site.job('storage.expose', { refId: 'missing' })), { code: 'IMAGE_NOT_FOUND' })
  })

  await t.test('leaves a volume alone that this agent has not made', async t => {
    await run('rbd', 'create', `${site.environment.CEPH_DEFAULT_POOL}/theirs`, '--size', '8M')
    for (const action of ['storage.expose', 'storage.unexpose']) {
      t.match(await site.perform(site.job(action, { refId: 'theirs' })), { code: 'IMAGE_NOT_OURS' }, action)
    }
    t.notOk((await tgt.names()).some(name => name.endsWith(':theirs')))
  })

  await t.test('no log, no result and no command has a password of a job', async t => {
    t.notOk(site.logText.join('').includes('for-this-one-1'))
    t.notOk(JSON.stringify(site.results.map(({ body }) => body)).includes('for-this-one-1'))
    const list = await showJobs(site)
    t.match(list, /for-this-one/, 'the user is shown')
    t.notOk(list.includes('for-this-one-1'))
  })
})

const cli = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))

/** All that `cephkit jobs` tells of the agent's jobs. */
async function showJobs({ environment, agentId }: TestSite): Promise<string> {
  const env = { ...process.env, ...environment }
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [cli, 'jobs', 'list', '--all', '--json', '--agent', agentId],
    { env },
  )
  return stdout
}

t.test('a create that cannot expose leaves nothing', async t => {
  const { site, tgt } = await start(t)
  await tgt.kill()
  const result = await site.perform(site.job('storage.create', { name: 'never', sizeMB: 8 }))
  t.match(result, { ok: false, code: 'ISCSI_DOWN', retryable: true, rollback: { complete: true, leftovers: [] } })
  t.same(await site.imageNames(), [])
  await tgt.start()
  const { disk } = await site.succeed(site.job('storage.create', { name: 'later', sizeMB: 8 }))
  await until('all is as it should be', async () => (await tgt.names()).length === 1)
  t.same(await tgt.names(), [disk.refId])
})

t.test('a create that fails is undone although somebody who died counts as having the image open', async t => {
  const { site, tgt, pool } = await start(t)
  await tgt.kill()
  site.onLog = ({ msg, step }) => {
    if (msg !== 'step done' || step !== 'ready') return
    const [image] = execFileSync('rbd', ['ls', pool], { encoding: 'utf8' }).trim().split('\n')
    const writing = ['rbd', 'bench', '--io-type', 'write', '--io-total', '1G', '--io-threads', '1', `${pool}/${image}`]
    spawnSync('timeout', ['--signal', 'KILL', '2', ...writing], { stdio: 'ignore' })
  }
  const job = site.job('storage.create', { name: 'left', sizeMB: 1024 })
  await site.publish(job)
  // Longer than Ceph takes to forget whoever died.
  while (site.resultsOf(job).length === 0) await delay(100)
  t.match(site.resultsOf(job), [{ ok: false, code: 'ISCSI_DOWN', rollback: { complete: true, leftovers: [] } }])
  t.same(await site.imageNames(), [])
})

t.test('an expose while there is no tgtd leaves all as it was', async t => {
  const { site, tgt } = await start(t)
  const { disk } = await site.succeed(site.job('storage.create', { name: 'disk', sizeMB: 8 }))
  await tgt.kill()
  const refused = await site.perform(site.job('storage.expose', { refId: disk.refId, initiators: [initiator] }))
  t.match(refused, { ok: false, code: 'ISCSI_DOWN', retryable: true, rollback: { complete: true, leftovers: [] } })
  await tgt.start()
  const another = 'iqn.2001-07.org.openhvx:another'
  // A tgtd that has just begun may break off.
  await until('the target', async () => (await discover(tgt, another).catch((): string[] => [])).includes(disk.refId))
})

t.test('a volume keeps its name when IQN_PREFIX changes', async t => {
  const { site, tgt, agent } = await start(t)
  const create = (name: string) => site.succeed(site.job('storage.create', { name, sizeMB: 8 }))
  const former = await create('former')
  await agent.stop()
  await site.startAgent({ ...tgt.environment, IQN_PREFIX: 'iqn.2020-02.com.example:' })
  const later = await create('later')
  t.equal(later.disk.refId, `iqn.2020-02.com.example:${later.disk.name}`)
  t.same((await tgt.names()).sort(), [former.disk.refId, later.disk.refId].sort())
  const { inventory } = await site.succeed(site.job('inventory.refresh', {}))
  t.same(new Set(inventory.volumes.map(({ iqn }: { iqn: string }) => iqn)), new Set(await tgt.names()))
  t.equal((await site.succeed(site.job('storage.expose', { refId: former.disk.refId }))).iqn, former.disk.refId)
  await site.succeed(site.job('storage.resize', { refId: former.disk.refId, sizeMB: 16 }))
  t.equal(await capacity(tgt.url(former.disk.refId)), 16 * MiB)
  await site.succeed(site.job('storage.unexpose', { refId: former.disk.refId }))
  t.same(await tgt.names(), [later.disk.refId])
  const anew = await site.succeed(site.job('storage.expose', { refId: former.disk.refId }))
  t.equal(anew.iqn, `iqn.2020-02.com.example:${former.disk.name}`, 'exposed anew, it has the new one')
  await site.succeed(site.job('storage.delete', { refId: former.disk.refId }))
  t.same(await tgt.names(), [later.disk.refId])
})

t.test('a resize and an unexpose while there is no tgtd hold when it is back', async t => {
  const { site, tgt } = await start(t)
  const { disk } = await site.succeed(site.job('storage.create', { name: 'one', sizeMB: 8 }))
  const other = await site.succeed(site.job('storage.create', { name: 'other', sizeMB: 8 }))
  await tgt.kill()
  await site.succeed(site.job('storage.resize', { refId: disk.refId, sizeMB: 16 }))
  t.match(await site.succeed(site.job('storage.unexpose', { refId: other.disk.refId })), { targetDeleted: true })
  await tgt.start()
  await until('the target', async () => (await tgt.names()).includes(disk.refId))
  await until('its size', async () => (await capacity(tgt.url(disk.refId)).catch(() => 0)) === 16 * MiB)
  t.same(await tgt.names(), [disk.refId])
})

t.test('where volumes are not exposed, all is as without iSCSI', async t => {
  const site = await TestSite.open(t)
  await site.startAgent({ ISCSI_DRIVER: 'none' })
  const { disk, targetExisted } = await site.succeed(site.job('storage.create', { name: 'plain', sizeMB: 8 }))
  t.equal(targetExisted, false)
  t.match(await site.perform(site.job('storage.expose', { refId: disk.refId })), { code: 'ISCSI_NOT_CONFIGURED' })
  const { inventory } = await site.succeed(site.job('inventory.refresh', {}))
  t.match(inventory.volumes, [{ refId: disk.name, isAttached: false }])
  t.notOk('iqn' in inventory.volumes[0])
  t.match(await site.succeed(site.job('storage.delete', { refId: disk.refId })), { targetDeleted: false })
})

t.test('targets of another agent, which is on another host', async t => {
  const { site, tgt, agent, pool } = await start(t)
  await using records = await openRecords(site)
  const { disk } = await site.succeed(site.job('storage.create', { name: 'web', sizeMB: 16 }))
  const lists = () => listAllExposures(site.cluster, pool)
  const [exposure] = (await lists()).get(site.agentId)?.exposures ?? []
  await agent.stop()
  await tgt.kill()
  const here = await Tgt.start(t)
  const another = { STORAGE_CONTROLLER_AGENT_ID: 'another', TASK_QUEUE: `${site.id}.tasks-of-another` }
  t.teardown(() => site.onBroker(channel => channel.deleteQueue(another.TASK_QUEUE)))
  const settings = { ...here.environment, ...another, JOURNAL_TAKEOVER: '1' }
  await site.startAgent(settings)

  await t.test('are told of in inventories, and not who is logged in', async t => {
    const refresh = { ...site.job('inventory.refresh', {}), agentId: another.STORAGE_CONTROLLER_AGENT_ID }
    await site.onBroker(async channel => channel.sendToQueue(another.TASK_QUEUE, Buffer.from(JSON.stringify(refresh))))
    const result = await until('its result', () => site.resultsOf(refresh)[0])
    const { inventory } = result.result as { inventory: Inventory }
    const volume = inventory.volumes.find(({ refId }) => refId === disk.name)
    t.match(volume, { iqn: disk.refId, isAttached: undefined })
    t.notOk(Object.hasOwn(volume ?? {}, 'isAttached'))
  })

  await t.test('are not made here when a job of that agent is undone', async t => {
    const job = site.job('storage.delete', { refId: disk.refId }) as JobMessage
    const plan = actionOf(job).plan(job, readConfig(site.environment))
    const made = { id: disk.id, hasSnapshots: false, origin: null, isHalfRemoved: false, exposure, children: [] }
    const steps = [{ name: 'found', made }, { name: 'cleared' }]
    await records.create(newRecord(job, { plan, image: plan.image ?? '', steps }))
    await records.enter(site.agentId, job.taskId, '')
    const result = await until('its result', () => site.resultsOf(job as Job)[0])
    const leftovers = [{ kind: 'target', name: disk.refId, reason: /on its own host/ }]
    t.match(result, { ok: false, code: 'OTHER_GATEWAY', rollback: { complete: false, leftovers } })
    t.same(await here.names(), [])
    t.same([...(await lists()).keys()], [site.agentId])
  })
})
