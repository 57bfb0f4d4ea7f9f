/** What jobs say of access to targets. */
import { BlockList, isIP } from 'node:net'
import { z } from 'zod'
import { chapPassword, chapPasswordIs, chapUser, chapUserIs } from '../settings.js'

const mostRules = 64
const longestName = 223

/** RFC 3720, 3.2.6.3: there is neither white space nor punctuation in it, but for these. */
const initiatorName = /^(iqn\.\d{4}-\d{2}\.[a-z0-9.:-]+|eui\.[0-9a-f]{16}|naa\.([0-9a-f]{16}|[0-9a-f]{32}))$/i

export function initiators() {
  const name = z
    .string('must be a string')
    .max(longestName, `must be at most ${longestName} characters`)
    // As initiators write it, whoever writes it otherwise (RFC 3722).
    .toLowerCase()
    .regex(initiatorName, 'must be the name of an initiator, such as iqn.1993-08.org.debian:01:abc')
  return rules(name)
}

/** Of an address of IPv6 with a zone, which may be of any length otherwise. */
const longestAddress = 64

export function addresses() {
  return rules(
    z
      .string('must be a string')
      .max(longestAddress, `must be at most ${longestAddress} characters`)
      .refine(
        isAddressOrNetwork,
        'must be an IP address, or a network such as 10.0.0.0/24 with no bits set beyond its mask',
      ),
  )
}

function rules<T>(rule: z.ZodType<T>) {
  // Counted before they are looked at, as each wrong one would be a problem to name.
  return z.array(z.unknown(), 'must be a list').max(mostRules, `must be at most ${mostRules}`).pipe(z.array(rule))
}

function credentials() {
  return {
    user: z.string('must be a string').regex(chapUser, chapUserIs),
    password: z.string('must be a string').regex(chapPassword, chapPasswordIs),
  }
}

/** What initiators have to show, and in `mutual` what the target shows them; false: nothing. */
export function chap() {
  const pair = z
    .strictObject({ ...credentials(), mutual: z.strictObject(credentials()).optional() })
    .refine(({ user, password, mutual }) => mutual?.user !== user && mutual?.password !== password, {
      path: ['mutual'],
      message: 'must have another user and another password',
    })
  return z.union([z.literal(false), pair], 'must be false, or have a user and a password, and perhaps mutual')
}

/** tgtd takes an address of the other version for zeroes when it compares it with a network, and would let it in to these. */
const zeroes = new BlockList()
zeroes.addAddress('0.0.0.0')
zeroes.addSubnet('::', 64, 'ipv6')

function isAddressOrNetwork(text: string): boolean {
  if (isIP(text) !== 0) return true
  const [, address = '', bits = ''] = /^([\da-f.:]+)\/(\d{1,3})$/i.exec(text) ?? []
  const family = isIP(address)
  if (family === 0 || zeroes.check(address, family === 4 ? 'ipv4' : 'ipv6')) return false
  return Number(bits) >= 1 && Number(bits) < (family === 4 ? 32 : 128) && isFirst(address, Number(bits))
}

/** Whether it is the first address of the network. */
function isFirst(address: string, bits: number): boolean {
  if (isIP(address) === 6) return true
  const number = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
  return number % 2 ** (32 - bits) === 0
}
