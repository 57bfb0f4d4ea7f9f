/** The mount of the tenants that an agent keeps: once it is closed, it stays so. */
import { pino } from 'pino'
import t from 'tap'
import { ClosedError, type FileSystem } from '../../lib/index.js'
import { TenantBase } from '../../src/cephfs/base.js'
import { testFileSystem } from '../support/file-system.js'

const closed = { name: 'ClosedError', code: 'EBADF' }

t.test('nothing is mounted after close, whatever was begun before', async t => {
  const { cluster, files, root } = await testFileSystem(t)
  const baseAt = (tenantBase: string) => {
    const config = { cephfs: { fileSystem: undefined, tenantBase } }
    return new TenantBase({ cluster, config, log: pino({ enabled: false }) })
  }

  await t.test('a use of a closed one', async t => {
    await files.mkdir('/there')
    for (const wasMounted of [false, true]) {
      const base = baseAt(`${root}/there`)
      if (wasMounted) await base.use(async () => {})
      await base.close()
      await t.rejects(
        base.use(async () => t.fail('it is used')),
        closed,
      )
      await t.rejects(
        base.useOrMake(async () => t.fail('it is used')),
        closed,
      )
      await base.close()
    }
  })

  await t.test('a use that is overtaken', async t => {
    let overtaken = 0
    // At every moment of it: of the mount that fails, of the making, and of the mount.
    for (let delayMs = 0; delayMs < 400; delayMs += 20) {
      const base = baseAt(`${root}/made-${delayMs}`)
      const used: FileSystem[] = []
      const using = base.useOrMake(async ({ files }) => void used.push(files)).catch((error: unknown) => error)
      await new Promise(resolve => setTimeout(resolve, delayMs))
      await base.close()
      const error = await using
      if (error instanceof ClosedError) overtaken++
      else t.equal(error, undefined)
      t.ok(
        used.every(({ closed }) => closed),
        'and what it had is closed',
      )
    }
    t.ok(overtaken > 0)
  })
})
