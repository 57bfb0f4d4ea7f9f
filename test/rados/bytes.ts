/** Keys and names are text in JavaScript, and bytes in RADOS: what is no text is an error, and never another text. */
import t from 'tap'
import { CephError } from '../../lib/index.js'
import { run, testPool } from '../support/cluster.js'

/** A shell, because arguments are text in Node too. */
const setKey = 'rados -p rbd -N "$0" setomapval binary "$(printf "\\377")" value'

t.test('a key that is not UTF-8', async t => {
  const pool = await testPool(t)
  await pool.object('text').setOmap({ 'größe €😀': 'x' })
  t.strictSame([...(await pool.object('text').getOmapPage()).entries.keys()], ['größe €😀'])
  await run('sh', '-c', setKey, pool.namespace)
  await t.rejects(pool.object('binary').getOmapPage(), { code: 'EILSEQ', syscall: 'rados_omap_get_next2' })
})

t.test('more data than librados can count is refused', async t => {
  const pool = await testPool(t)
  await pool.object('x').writeFull('x')
  const data = Buffer.allocUnsafeSlow(2 ** 31)
  await t.rejects(pool.object('x').writeFull(data), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' })
  t.equal((await pool.object('x').stat()).size, 1)
})

t.test('an error of the caller stays what it is', async t => {
  const pool = await testPool(t)
  await pool.createImage('disk', { size: 2 ** 26 })
  const image = await pool.openImage('disk')
  const own = Object.assign(new Error('own'), { code: 'ENOENT', errno: -2, syscall: 'open' })
  const shrinking = image.resize(0, {
    allowShrink: true,
    onProgress: () => {
      throw own
    },
  })
  const error = await shrinking.catch(error => error)
  t.equal(error, own)
  t.notOk(error instanceof CephError)
})
