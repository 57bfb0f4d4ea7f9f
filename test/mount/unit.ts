/** What `cephkit mount-unit` prints: taken by systemd itself, and nothing gets in that is no setting of ours. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { escapePath, type MountSettings, mountUnit } from '../../src/mount/unit.js'
import { run } from '../support/cluster.js'
import { cephkit } from '../support/command.js'

const fsid = '385afc49-2fbe-414f-b187-bc96a7173525'
const settings: MountSettings = {
  where: '/srv/web',
  user: 'web',
  fsid,
  monitors: ['10.0.0.1', '10.0.0.2:6789', '[fd00::1]:6789'],
  fileSystem: 'cephfs',
  root: '/tenants',
  secretFile: '/etc/ceph/web.secret',
  timeoutSeconds: 30,
  device: 'new',
}
const given = ['--user', 'web', '--fsid', fsid, '--monitor', '10.0.0.1', '10.0.0.2']

const setting = (text: string, key: string) => new RegExp(`^${key}=(.*)$`, 'm').exec(text)?.[1]

/** Systemd reads it as a unit of that name. */
async function verify(t: Test, path: string, text: string): Promise<string> {
  const folder = t.testdir()
  const file = join(folder, path.slice(path.lastIndexOf('/') + 1))
  await writeFile(file, text)
  // What it says about a unit that is well is nothing; what is wrong with other units of this machine is not asked for.
  const said = await run('systemd-analyze', 'verify', '--recursive-errors=no', '--man=no', file).catch(
    error => error.stderr,
  )
  t.equal(said, '', `systemd-analyze verify ${path}`)
  return file
}

t.test('names of units are those of systemd-escape --path', async t => {
  const paths = [
    '/',
    '//',
    '/srv/web',
    '/srv/web/',
    '//srv///web//',
    '/srv/./web',
    '/my-mount',
    '/with space',
    '/.hidden',
    '/a/.hidden',
    '/..a',
    '/under_score',
    '/colon:dot.',
    '/ünïcode/日本',
    '/100%',
    '/at@plus+',
    '/quo\'te"s',
    '/tilde~$HOME',
    `/${'long/'.repeat(20)}`,
  ]
  for (const path of paths)
    t.equal(escapePath(path), (await run('systemd-escape', '--path', path)).trim(), JSON.stringify(path))
})

t.test('a device of the new syntax', t => {
  const { path, text } = mountUnit(settings)
  t.equal(path, '/etc/systemd/system/srv-web.mount')
  t.equal(setting(text, 'What'), `web@${fsid}.cephfs=/tenants`)
  t.equal(setting(text, 'Where'), '/srv/web')
  t.equal(setting(text, 'Type'), 'ceph')
  t.strictSame(setting(text, 'Options')?.split(','), [
    'name=web',
    'secretfile=/etc/ceph/web.secret',
    'mon_addr=10.0.0.1/10.0.0.2:6789/[fd00::1]:6789',
    'mount_timeout=30',
    'noatime',
    '_netdev',
  ])
  t.ok(Number(setting(text, 'TimeoutSec')) > 30, 'systemd waits for longer than the kernel')
  t.end()
})

t.test('a device of the old syntax', t => {
  const { text } = mountUnit({ ...settings, device: 'old' })
  t.equal(setting(text, 'What'), '10.0.0.1,10.0.0.2:6789,[fd00::1]:6789:/tenants')
  t.match(setting(text, 'Options')?.split(','), ['name=web', 'secretfile=/etc/ceph/web.secret', 'mds_namespace=cephfs'])
  t.notMatch(text, 'mon_addr')
  t.end()
})

t.test('msgr2 is spoken where all monitors have its port', t => {
  const optionsOf = (monitors: string[]) => setting(mountUnit({ ...settings, monitors }).text, 'Options')
  t.match(optionsOf(['a:3300', '[::1]:3300']), ',ms_mode=prefer-crc,')
  t.notMatch(optionsOf(['a:3300', 'b']), 'ms_mode')
  t.end()
})

t.test('systemd takes the unit, for whatever mount point', async t => {
  for (const where of ['/srv/web', '/srv/my-web 2', '/srv/100%n', '/srv/ü', '/srv/.web']) {
    const { path, text } = mountUnit({ ...settings, where, root: where, secretFile: `${where}.secret` })
    await verify(t, path, text)
  }
  const { path, text } = mountUnit(settings)
  const broken = text.replace('Where=/srv/web', 'Where=/elsewhere')
  const folder = t.testdir()
  const file = join(folder, path.slice(path.lastIndexOf('/') + 1))
  await writeFile(file, broken)
  await t.rejects(
    run('systemd-analyze', 'verify', '--man=no', file),
    { message: /Where=/ },
    'one that it would not take',
  )
})

t.test('nothing ends a line', t => {
  const wrong: Partial<MountSettings>[] = []
  for (const path of [
    '/a\nExecStart=/bin/sh',
    '/a\rb',
    '/a\0b',
    '/a\\',
    '/a\\\n',
    '/a\u2028b',
    '/a\u0085b',
    '/a\ud800b',
    '/a ',
    '/a/../b',
    'relative',
    '',
  ])
    wrong.push({ where: path }, { root: path }, { secretFile: path })
  wrong.push({ where: '/' }, { where: `/${'x'.repeat(260)}` }, { secretFile: '/a,exec' })
  wrong.push({ device: 'old', root: '/a@b.c=d' })
  for (const text of ['', 'a b', 'a\nb', 'a,b', 'a=b', 'a/b', '-a', 'a@b', '%n'])
    wrong.push({ user: text }, { fileSystem: text })
  wrong.push({ user: 'client.web' })
  for (const text of ['', 'a b', 'a,b', 'a/b', 'a\nb', '::1', 'a:b', '-a', '[x]', 'a:123456'])
    wrong.push({ monitors: [text] })
  wrong.push(
    { monitors: [] },
    { fsid: 'cephfs' },
    { fsid: `${fsid}\n` },
    { timeoutSeconds: 0 },
    { timeoutSeconds: 1.5 },
  )
  for (const each of wrong) {
    // What ends a line does so in a report of tests, too.
    const title = JSON.stringify(each).replace(/[^ -~]/g, character => `U+${character.charCodeAt(0).toString(16)}`)
    t.throws(() => mountUnit({ ...settings, ...each }), { name: 'TypeError' }, title)
  }
  t.end()
})

t.test('the command prints each file', async t => {
  const unit = await cephkit(['mount-unit', '/srv/my-web', ...given])
  t.match(unit, { code: 0, stderr: '', stdout: /^# \/etc\/systemd\/system\/srv-my\\x2dweb\.mount\n\[Unit\]\n/ })
  t.match(setting(unit.stdout, 'Options'), 'secretfile=/etc/ceph/ceph.client.web.secret')
  await verify(t, '/srv-my\\x2dweb.mount', unit.stdout)

  const conf = await cephkit(['mount-unit', '/srv/web', ...given, '--print', 'ceph.conf'])
  t.equal(conf.stdout, `# /etc/ceph/ceph.conf\n[global]\nfsid = ${fsid}\nmon_host = 10.0.0.1,10.0.0.2\n`)
  const folder = t.testdir()
  await writeFile(join(folder, 'ceph.conf'), conf.stdout)
  t.equal((await run('ceph-conf', '-c', join(folder, 'ceph.conf'), '--lookup', 'fsid')).trim(), fsid)

  const dropIn = await cephkit(['mount-unit', '/srv/web', ...given, '--print', 'drop-in', '--service', 'nginx.service'])
  t.match(dropIn.stdout, /^# \/etc\/systemd\/system\/nginx\.service\.d\/cephfs\.conf\n/)
  t.match(dropIn.stdout, /^BindsTo=srv-web\.mount\nAfter=srv-web\.mount$/m)

  const none = await cephkit(['mount-unit', '/srv/web', ...given, '--print', 'drop-in'])
  t.match(none, { code: 1, stdout: '', stderr: /needs --service/ })
  const hostile = await cephkit([
    'mount-unit',
    '/srv/web',
    ...given,
    '--print',
    'drop-in',
    '--service',
    'a/../b.service',
  ])
  t.match(hostile, { code: 1, stdout: '', stderr: /--service must be/ })
  const newline = await cephkit(['mount-unit', '/srv/web\nWhat=x', ...given])
  t.match(newline, { code: 1, stdout: '', stderr: /mount point must be/ })
  t.match((await cephkit(['mount-unit', '--help'])).stdout, 'cephkit keyring secret')
})

t.test('the cloud-init document has them all, as a reader of YAML sees it', async t => {
  const args = ['mount-unit', "/srv/my-web '2", ...given, '--service', 'nginx.service']
  const { stdout } = await cephkit([...args, '--print', 'cloud-init'])
  t.match(stdout, /^#cloud-config\n/)
  const script = 'import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))'
  const folder = t.testdir({ 'user-data': stdout })
  const document = JSON.parse(await run('/usr/bin/python3', '-c', script, join(folder, 'user-data')))
  const files = new Map<string, string>(
    document.write_files.map(({ path, content }: { path: string; content: string }) => [path, content]),
  )
  for (const print of ['unit', 'ceph.conf', 'drop-in']) {
    const [heading = '', ...lines] = (await cephkit([...args, '--print', print])).stdout.split('\n')
    t.equal(files.get(heading.slice(2)), lines.join('\n'), heading)
  }
  t.equal(files.size, 3, 'and no secret')
  t.strictSame(document.runcmd, [
    ['systemctl', 'daemon-reload'],
    ['systemctl', 'enable', '--now', `${(await run('systemd-escape', '--path', "/srv/my-web '2")).trim()}.mount`],
  ])
  t.equal(await readFile(join(folder, 'user-data'), 'utf8'), stdout)
})
