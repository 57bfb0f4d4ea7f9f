/** `cephkit tenant` and `cephkit quota`. */
import t, { type Test } from 'tap'
import { GiB, MiB } from '../../lib/index.js'
import { parseSize, showSize } from '../../src/cli/size.js'
import { cephkit } from '../support/command.js'
import { until } from '../support/process.js'
import { testTenants } from '../support/tenants.js'

async function testCommand(t: Test) {
  const own = await testTenants(t)
  const base = `${own.root}/tenants`
  const call = (...args: string[]) => cephkit(args, { ...process.env, CEPHFS_TENANT_BASE: base })
  const succeed = async (...args: string[]) => {
    const { code, stdout, stderr } = await call(...args)
    if (code !== 0) throw new Error(`${args.join(' ')}: ${stderr}`)
    return stdout
  }
  return { ...own, base, call, succeed }
}

t.test('sizes are taken and shown in units of 1024', t => {
  const sizes: Record<string, number> = {
    '1': 1,
    '4096': 4096,
    '5K': 5120,
    '1.5G': 1.5 * GiB,
    '2 GiB': 2 * GiB,
    '7mb': 7 * MiB,
  }
  for (const [text, bytes] of Object.entries(sizes)) t.equal(parseSize('--size', text), bytes, text)
  for (const text of ['', '0', '-1', '1e9', '5X', 'G', '1.', '0.1', '99999P', '1 000', '0x10']) {
    t.throws(() => parseSize('--size', text), { message: /^--size .*must be a size/ }, text)
  }
  t.same([0, 1023, 1024, 1536, GiB - 1, GiB, 2 ** 53].map(showSize), [
    '0 B',
    '1023 B',
    '1.0 KiB',
    '1.5 KiB',
    '1024.0 MiB',
    '1.0 GiB',
    '8.0 PiB',
  ])
  t.end()
})

t.test('a tenant is made, mended, limited, shown and removed', async t => {
  const { files, base, call, succeed } = await testCommand(t)
  t.equal(await succeed('tenant', 'list'), 'no tenants\n')
  const ids = ['--uid', '20001', '--gid', '20001']
  const made = await succeed('tenant', 'ensure', 'acme', ...ids, '--max-bytes', '20GiB', '--public', 'example.org')
  t.equal(made, `${base}/acme made\n`)
  t.match(await files.lstat('/tenants/acme/webroots/example.org/public'), { uid: 20_001, mode: 0o40755 })
  t.equal(await succeed('tenant', 'ensure', 'acme', ...ids), `${base}/acme is as it is to be\n`)
  await files.chmod('/tenants/acme/home', 0o777)
  await files.rmdir('/tenants/acme/logs')
  const mended = await succeed('tenant', 'ensure', 'acme', ...ids)
  t.match(mended, /acme mended\n {2}home: .*"0777".* -> .*"0700".*\n {2}logs: missing -> .*"0750"/)
  t.equal(await succeed('tenant', 'list'), 'acme\n')

  const set = JSON.parse(await succeed('quota', 'set', 'acme', '--max-files', '1000', '--json'))
  t.match(set, { path: `${base}/acme`, quota: { maxBytes: 20 * GiB, maxFiles: 1000 }, usage: { bytes: 0 } })
  t.strictSame(await files.getQuota('/tenants/acme'), { maxBytes: 20 * GiB, maxFiles: 1000 })
  await succeed('quota', 'set', `${base}/acme/home`, '--max-bytes', '1M')
  t.match(await succeed('quota', 'get', `${base}/acme/home`), / 0 B {2}1\.0 MiB {2}░{10} +0 %/)
  await succeed('quota', 'set', 'acme', '--max-bytes', 'none')
  t.strictSame(JSON.parse(await succeed('quota', 'get', 'acme', '--json')).quota, { maxFiles: 1000 })
  await succeed('quota', 'clear', 'acme')
  t.strictSame(await files.getQuota('/tenants/acme'), {})

  t.match(JSON.parse(await succeed('tenant', 'usage', 'acme', '--json')), { name: 'acme', quota: {}, deleting: false })
  t.match(await succeed('tenant', 'delete', 'acme'), /^acme deleted: \d+ files and directories\n$/)
  t.equal(await succeed('tenant', 'delete', 'acme'), 'there is no tenant acme\n')
  t.same(await files.readdir('/tenants'), [])
  t.equal((await call('tenant', 'usage', 'acme')).code, 1)
})

t.test('the report has a line for each, the fullest first', async t => {
  const { tenants, files, succeed } = await testCommand(t)
  t.equal(await succeed('quota', 'report'), 'no tenants\n')
  for (const [name, quota] of Object.entries({
    full: { maxBytes: MiB },
    half: { maxBytes: 2 * MiB, maxFiles: 1000 },
    free: {},
  })) {
    await tenants.ensure({ name, uid: 20_001, gid: 20_001, quota })
    await files.writeFile(`/tenants/${name}/home/file`, Buffer.alloc(MiB))
  }
  const isCounted = ({ usage }: { usage: { bytes: number } }) => usage.bytes === MiB
  const counted = async () => JSON.parse(await succeed('quota', 'report', '--json')).every(isCounted)
  t.ok(await until(counted, 60_000))
  const lines = (await succeed('quota', 'report')).trimEnd().split('\n')
  t.match(lines[0], /^ +BYTES +OF +FILES +OF$/)
  t.match(lines[1], /^full +1\.0 MiB +1\.0 MiB {2}█{10} +100 % +6 +-$/)
  t.match(lines[2], /^half +1\.0 MiB +2\.0 MiB {2}█{5}░{5} +50 % +6 +1000 +░{10} +0 %$/)
  t.match(lines[3], /^free +1\.0 MiB +- +6 +-$/)
  t.equal(lines.length, 4)
  t.match(await succeed('quota', 'report', '--over', '100'), /^[^\n]*\nfull [^\n]*\n$/)
  t.equal(await succeed('quota', 'report', '--over', '101'), 'no tenant has used 101 %\n')
  const [full] = JSON.parse(await succeed('quota', 'report', '--json'))
  t.match(full, {
    name: 'full',
    quota: { maxBytes: MiB },
    usage: { bytes: MiB, files: 1, subdirs: 5 },
    fullness: { bytes: 1 },
  })
})

t.test('what is wrong is said in one line, and nothing is touched', async t => {
  const { files, call, base } = await testCommand(t)
  const ids = ['--uid', '20001', '--gid', '20001']
  const wrong: [args: string[], says: RegExp][] = [
    [['tenant', 'ensure', '../x', ...ids], /name: must be of letters/],
    [['tenant', 'ensure', 'a', '--uid', '0', '--gid', '20001'], /--uid 0/],
    [['tenant', 'ensure', 'a', '--uid', '5', '--gid', '20001'], /uid: must be an integer from 1000/],
    [['tenant', 'ensure', 'a', ...ids, '--webroot', '..'], /webroots\.0\.name/],
    [['tenant', 'ensure', 'a', ...ids, '--max-bytes', 'much'], /--max-bytes much: must be a size/],
    [['tenant', 'ensure', 'a'], /--uid/],
    [['tenant', 'delete', '..'], /name: must be/],
    [['tenant', 'usage', 'none'], /there is no .*none/],
    [['quota', 'set', 'a'], /--max-bytes or --max-files: missing/],
    [['quota', 'set', 'a', '--max-files', '0'], /--max-files 0: must be a whole number/],
    [['quota', 'set', '/', '--max-files', '5'], /path: must be .*or below it/],
    [['quota', 'get', '/etc'], /path: must be .*or below it/],
    [['quota', 'clear', `${base}/../x`], /must be a path without/],
    [['quota', 'get', '..'], /must be of letters/],
    [['quota', 'report', '--over', 'all'], /--over all: must be a number/],
  ]
  for (const [args, says] of wrong) {
    const { code, stderr } = await call(...args)
    t.equal(code, 1, args.join(' '))
    t.match(stderr, says)
  }
  t.same(await files.readdir('/tenants'), [])
})

t.test('a tenant with snapshots is told of', async t => {
  const { tenants, files, call, succeed } = await testCommand(t)
  await tenants.ensure({ name: 'acme', uid: 20_001, gid: 20_001 })
  await files.createSnapshot('/tenants/acme', 'monday')
  t.ok(await until(async () => Number(await files.getXattr('/tenants/acme', 'ceph.dir.rsnaps')) === 1, 30_000))
  const { code, stderr } = await call('tenant', 'delete', 'acme')
  t.equal(code, 1)
  t.match(stderr, /has 1 snapshots.*\n {2}snapshot .*acme@monday/)
  await succeed('tenant', 'delete', 'acme', '--snapshots')
  t.same(await files.readdir('/tenants'), [])
})
