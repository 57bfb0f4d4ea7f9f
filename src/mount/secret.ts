/** The bare secret of a keyring, which `mount.ceph` takes by its option `secretfile`. */
import { randomUUID } from 'node:crypto'
import { open, readFile, rename, rm, stat } from 'node:fs/promises'

/** Longer than any keyring, and short enough to be read at once. */
const longestKeyring = 1024 * 1024

/**
 * Writes the secret of an entity into a file, which is nobody else's to read from its first moment on, and is there all at once.
 *
 * @param entity - Such as `client.web`; undefined where the keyring has only one.
 */
export async function writeSecret(keyring: string, entity: string | undefined, output: string): Promise<void> {
  const { size } = await stat(keyring)
  if (size > longestKeyring) throw new Error(`${keyring} is no keyring: it has ${size} bytes`)
  const secret = secretOf(keyring, await readFile(keyring, 'utf8'), entity)
  if (await isSameFile(keyring, output)) throw new Error(`${output} is the keyring itself, which would be lost`)
  await replaceFile(output, secret)
}

async function isSameFile(one: string, other: string): Promise<boolean> {
  const [first, second] = await Promise.all([stat(one), stat(other).catch(ignoreMissing)])
  return second !== undefined && first.dev === second.dev && first.ino === second.ino
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}

async function replaceFile(path: string, content: string): Promise<void> {
  const made = `${path}.${randomUUID()}`
  const file = await open(made, 'wx', 0o600)
  try {
    await file.writeFile(content)
    await file.sync()
    await file.close()
    await rename(made, path)
  } catch (error) {
    await file.close()
    await rm(made, { force: true })
    throw new Error(`${path} cannot be written: ${(error as Error).message}`, { cause: error })
  }
}

/** @param file - For messages, which show nothing of what is in it but names. */
export function secretOf(file: string, text: string, entity: string | undefined): string {
  const keys = keysOf(file, text)
  const entities = [...keys.keys()]
  const all = entities.map(each => JSON.stringify(each)).join(', ')
  if (entities.length === 0) throw new Error(`${file} is no keyring: no [client.NAME] in it has a key`)
  if (entity === undefined && entities.length > 1)
    throw new Error(`${file} has several keys: choose by --name of ${all}`)
  const chosen = entity ?? entities[0] ?? ''
  const key = keys.get(chosen)
  if (key === undefined) throw new Error(`${file} has no key of ${JSON.stringify(chosen)}; it has ${all}`)
  if (!isKey(key)) throw new Error(`${file} has a key of ${JSON.stringify(chosen)} that is none of Ceph's`)
  return key
}

/** By entity. */
function keysOf(file: string, text: string): Map<string, string> {
  const keys = new Map<string, string>()
  let entity: string | undefined
  for (const [index, line] of text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .entries()) {
    const wrong = (what: string) => new Error(`${file} is no keyring: ${what} in line ${index + 1}`)
    if (/^\s*([#;].*)?$/.test(line)) continue
    const section = /^\s*\[\s*([^\]\s]+)\s*\]\s*([#;].*)?$/.exec(line)
    if (section) {
      entity = section[1]
      continue
    }
    const [, name, value = ''] = /^\s*([\w. -]+?)\s*=\s*(.*)$/.exec(line) ?? []
    if (name === undefined) throw wrong('neither a section nor a setting')
    if (name !== 'key') continue
    if (entity === undefined) throw wrong('a key of nobody')
    const key = /^(?:"([^"]*)"|([^\s"#;]*))\s*([#;].*)?$/.exec(value)
    const found = key?.[1] ?? key?.[2] ?? ''
    if (keys.has(entity) && keys.get(entity) !== found) throw wrong(`another key of ${JSON.stringify(entity)}`)
    keys.set(entity, found)
  }
  return keys
}

/** What is before the secret in a key: its type, when it was made, and how long the secret is. */
const headerBytes = 12
const lengthAt = 10

/** Whether it is one, whole: with its padding, and as long as it says that it is. */
function isKey(key: string): boolean {
  if (!/^[A-Za-z\d+/]+={0,2}$/.test(key) || key.length % 4 !== 0) return false
  const bytes = Buffer.from(key, 'base64')
  if (bytes.toString('base64') !== key || bytes.length <= headerBytes) return false
  return bytes.readUInt16LE(0) !== 0 && bytes.readUInt16LE(lengthAt) === bytes.length - headerBytes
}
