/** Quotas on a mount of the kernel's: cephkit sets them and the kernel stops writers; others set them there and cephkit tells. */
import t, { type Test } from 'tap'
import { type FileSystem, MiB } from '../../lib/index.js'
import { testFileSystem } from '../support/file-system.js'
import { gateways } from '../support/gateway-lab/lab.js'
import { until } from '../support/process.js'

const { guest } = gateways[0]
const exceeded = { message: /Disk quota exceeded/ }

let mounts = 0

/** A directory of the test's own, in this process and in the guest's kernel. */
async function mountedDirectory(t: Test): Promise<{ files: FileSystem; folder: string }> {
  const { files, root } = await testFileSystem(t)
  const folder = `/mnt/${++mounts}`
  await guest.run(`mkdir ${folder}; mount -t ceph :${root} ${folder} -o name=admin`)
  t.teardown(() => guest.run(`umount ${folder}`))
  return { files, folder }
}

function write(path: string, mebibytes: number): Promise<string> {
  return guest.run(`dd if=/dev/zero of=${path} bs=1M count=${mebibytes} conv=fsync`)
}

t.test('the mount is of the kernel', async t => {
  const { folder } = await mountedDirectory(t)
  t.match(await guest.run(`stat --file-system --format %T ${folder}; findmnt -no FSTYPE ${folder}`), /^ceph\nceph\n$/)
})

t.test('a quota of bytes that cephkit sets stops a writer', async t => {
  const { files, folder } = await mountedDirectory(t)
  await files.mkdir('/tenant')
  await files.setQuota('/tenant', { maxBytes: 8 * MiB })
  t.equal(await guest.run(`getfattr --only-values -n ceph.quota.max_bytes ${folder}/tenant`), String(8 * MiB))
  await write(`${folder}/tenant/small`, 2)
  await t.rejects(write(`${folder}/tenant/large`, 40), exceeded)
  t.ok((await files.usage('/tenant')).bytes <= 16 * MiB, 'it was stopped soon')

  await t.test('until cephkit raises it', async t => {
    await guest.run(`rm ${folder}/tenant/large`)
    await files.setQuota('/tenant', { maxBytes: 64 * MiB })
    await write(`${folder}/tenant/large`, 40)
    t.ok(await until(async () => (await files.usage('/tenant')).bytes === 42 * MiB, 30_000), 'and cephkit counts it')
  })
  await t.test('or clears it', async t => {
    await files.setQuota('/tenant', { maxBytes: 42 * MiB })
    await t.rejects(write(`${folder}/tenant/more`, 8), exceeded)
    await files.clearQuota('/tenant')
    await write(`${folder}/tenant/more`, 8)
    t.equal((await files.stat('/tenant/more')).size, 8 * MiB)
  })
})

t.test('a quota of files that cephkit sets stops whoever makes one more', async t => {
  const { files, folder } = await mountedDirectory(t)
  await files.mkdir('/tenant')
  await files.setQuota('/tenant', { maxFiles: 4 })
  // The directory is one of the four.
  await guest.run(`touch ${folder}/tenant/1 ${folder}/tenant/2 ${folder}/tenant/3`)
  // Until the count of the others has come to who makes one more.
  const counted = () => guest.run(`getfattr --only-values -n ceph.dir.rfiles ${folder}/tenant`)
  t.ok(await until(async () => (await counted()) === '3', 30_000))
  await t.rejects(guest.run(`touch ${folder}/tenant/4`), exceeded)
  await t.rejects(guest.run(`mkdir ${folder}/tenant/5`), exceeded)
  await files.setQuota('/tenant', { maxFiles: 5 })
  await guest.run(`touch ${folder}/tenant/4`)
  t.equal((await files.readdir('/tenant')).length, 4)
})

t.test('a quota that is set on the mount is what cephkit tells', async t => {
  const { files, folder } = await mountedDirectory(t)
  await guest.run(`mkdir ${folder}/tenant
    setfattr -n ceph.quota.max_bytes -v ${7 * MiB} ${folder}/tenant
    setfattr -n ceph.quota.max_files -v 70 ${folder}/tenant`)
  t.strictSame(await files.getQuota('/tenant'), { maxBytes: 7 * MiB, maxFiles: 70 })
  await guest.run(`setfattr -n ceph.quota.max_files -v 0 ${folder}/tenant`)
  t.strictSame(await files.getQuota('/tenant'), { maxBytes: 7 * MiB }, '0 is none')
})

t.test('a mount of the directory itself has the quota for its size', async t => {
  const { files, folder } = await mountedDirectory(t)
  await files.setQuota('/', { maxBytes: 64 * MiB })
  const size = () => guest.run(`df --block-size=1 --output=size ${folder} | tail -n 1`)
  t.ok(await until(async () => Number(await size()) === 64 * MiB, 30_000), await size())
})
