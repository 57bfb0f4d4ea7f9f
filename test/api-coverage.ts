import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import {
  apiCoverage,
  contradictions,
  coverageOf,
  declaredFunctions,
  implementsTags,
  type LibraryCoverage,
  parseDeclaration,
  statementsOf,
} from '../scripts/api-coverage.js'
import { run } from './support/cluster.js'

t.test('a function is counted however it is declared', t => {
  const declared = (statement: string) => parseDeclaration(statement) ?? null
  t.strictSame(declared('int rbd_flush(rbd_image_t image)'), { name: 'rbd_flush', deprecated: false })
  t.strictSame(declared('const char *ceph_version(int *major, int *minor)'), {
    name: 'ceph_version',
    deprecated: false,
  })
  t.strictSame(declared('void rados_watch(void (*callback)(int error, void *arg), void *arg)'), {
    name: 'rados_watch',
    deprecated: false,
  })
  t.strictSame(
    declared('__attribute__ ((visibility ("default"))) int rbd_list(char *names) __attribute__((deprecated))'),
    {
      name: 'rbd_list',
      deprecated: true,
    },
  )
  t.strictSame(declared('__attribute__((deprecated("use rbd_list2"))) int rbd_list(char *names)'), {
    name: 'rbd_list',
    deprecated: true,
  })
  t.equal(declared('typedef int (*librbd_progress_fn_t)(uint64_t offset, uint64_t total, void *arg)'), null)
  t.equal(declared('struct rados_pool_stat_t'), null)
  t.equal(declared(''), null)
  t.end()
})

t.test('only what is in the header itself is looked at', t => {
  const preprocessed = [
    '# 1 "/usr/include/rbd/librbd.h" 1 3 4',
    'typedef struct {',
    '  int (*inside)(void);',
    '} rbd_thing_t;',
    '# 1 "/usr/include/rados/librados.h" 1 3 4',
    'int rados_connect(rados_t cluster);',
    '# 20 "/usr/include/rbd/librbd.h" 2 3 4',
    '#pragma GCC diagnostic push',
    'int rbd_open(rados_ioctx_t io,',
    '             const char *name);',
  ].join('\n')
  const statements = statementsOf(preprocessed, 'rbd/librbd.h')
  t.strictSame(statements, ['typedef struct rbd_thing_t', 'int rbd_open(rados_ioctx_t io, const char *name)', ''])
  t.end()
})

t.test('the header declares just what the library exports', t => {
  const library = execFileSync('g++', ['-print-file-name=librbd.so'], { encoding: 'utf8' }).trim()
  const symbols = execFileSync('nm', ['-D', '--defined-only', '--format=posix', library], { encoding: 'utf8' })
  const exported = symbols.match(/^rbd_\w+/gm) ?? []
  t.ok(exported.length > 200, 'there is something to compare with')
  t.strictSame(new Set(declaredFunctions('rbd/librbd.h').map(({ name }) => name)), new Set(exported))
  t.end()
})

t.test('tags are read from doc comments, several to a line and over several lines', t => {
  const source = `
    /** The size. @throws {Error} often @implements rbd_get_size */
    /**
     * @implements rbd_stat rbd_get_name
     *   rbd_get_id
     * @throws {Error}
     */
    // @implements rbd_nothing`
  t.strictSame(implementsTags(source), ['rbd_get_size', 'rbd_stat', 'rbd_get_name', 'rbd_get_id'])
  t.end()
})

t.test('a tag that is not true, and a function without one, are told', t => {
  const declared = new Set(['rbd_a', 'rbd_b', 'rbd_c', 'rbd_d'])
  const tags = new Map([
    ['rbd_a', ['lib/a.ts']],
    ['rbd_b', ['lib/b.ts']],
    ['rbd_typo', ['lib/t.ts']],
  ])
  const told = contradictions(declared, new Set(['rbd_a', 'rbd_c', 'rbd_newer']), tags, new Set(['rbd_d', 'rbd_a']))
  t.strictSame(told, [
    'The addon uses rbd_c, and no @implements in lib/ says so.',
    'The addon uses rbd_newer, which no header declares.',
    '@implements rbd_a in lib/a.ts: it is listed as internal too.',
    '@implements rbd_b in lib/b.ts: the addon does not use it.',
    '@implements rbd_typo in lib/t.ts: no header declares it.',
    'rbd_d is listed as internal, and the addon does not use it.',
  ])
  t.end()
})

t.test('coverage counts what is declared, used or not', t => {
  const declared = ['rbd_a', 'rbd_b', 'rbd_c'].map(name => ({ name, deprecated: false }))
  t.strictSame(coverageOf(declared, new Set(['rbd_b', 'rados_x'])), { used: 1, total: 3, missing: ['rbd_a', 'rbd_c'] })
  t.end()
})

t.test('the tags in lib/ and the addon agree', t => {
  t.strictSame(apiCoverage().problems, [])
  t.end()
})

t.test('the command prints it for programs', async t => {
  const command = fileURLToPath(new URL('../scripts/api-coverage.js', import.meta.url))
  const printed: Record<string, LibraryCoverage> = JSON.parse(await run(process.execPath, command, '--json'))
  t.strictSame(Object.keys(printed), ['librbd', 'librados', 'libcephfs'])
  for (const [library, { used, total, missing }] of Object.entries(printed)) {
    t.equal(used + missing.length, total, `${library} adds up`)
    t.ok(total > 100, `${library} was found`)
  }
  const missing = new Set(printed.librbd?.missing)
  t.same(
    ofAnImagesLife.filter(name => missing.has(name)),
    [],
    'what is done to images in their lives is used',
  )
})

/** Of those that do the same, the one without a successor. */
const ofAnImagesLife = [
  ...[
    'rbd_create4',
    'rbd_aio_open',
    'rbd_aio_open_read_only',
    'rbd_aio_open_by_id',
    'rbd_stat',
    'rbd_get_features',
    'rbd_get_flags',
  ],
  ...['rbd_get_parent', 'rbd_list_children3', 'rbd_list_descendants', 'rbd_get_create_timestamp', 'rbd_diff_iterate2'],
  ...[
    'rbd_resize2',
    'rbd_rename',
    'rbd_remove_with_progress',
    'rbd_copy_with_progress4',
    'rbd_deep_copy_with_progress',
  ],
  ...['rbd_flatten_with_progress', 'rbd_metadata_get', 'rbd_metadata_set', 'rbd_metadata_remove', 'rbd_metadata_list'],
  ...['rbd_snap_create2', 'rbd_snap_list', 'rbd_snap_protect', 'rbd_snap_unprotect', 'rbd_snap_rename'],
  ...[
    'rbd_snap_rollback_with_progress',
    'rbd_snap_remove2',
    'rbd_snap_set_limit',
    'rbd_snap_get_timestamp',
    'rbd_clone3',
  ],
  ...['rbd_trash_move', 'rbd_trash_list', 'rbd_trash_restore', 'rbd_trash_remove_with_progress'],
  ...['rbd_lock_acquire', 'rbd_lock_get_owners', 'rbd_lock_break', 'rbd_watchers_list', 'rbd_update_features'],
  ...['rbd_sparsify_with_progress', 'rbd_rebuild_object_map', 'rbd_config_image_list', 'rbd_config_pool_set'],
]
