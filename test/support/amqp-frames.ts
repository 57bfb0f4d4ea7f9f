/**
 * A publisher that sends what a client library would not: properties and headers are bytes, whatever they are. It knows
 * just enough of AMQP 0-9-1 to have them confirmed by the broker.
 */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

export const u8 = (value: number) => Buffer.from([value])
export const u16 = (value: number) => Buffer.from([value >> 8, value & 0xff])
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(value)
  return bytes
}
/** Up to 255 bytes. */
export const short = (bytes: string | Buffer) => Buffer.concat([u8(Buffer.byteLength(bytes)), Buffer.from(bytes)])
export const long = (bytes: string | Buffer) => Buffer.concat([u32(Buffer.byteLength(bytes)), Buffer.from(bytes)])

/** The properties of a message, by their bits, in the order of the protocol. */
export const propertyBits = {
  contentType: 15,
  contentEncoding: 14,
  headers: 13,
  deliveryMode: 12,
  priority: 11,
  correlationId: 10,
  replyTo: 9,
  messageId: 7,
  timestamp: 6,
  type: 5,
  appId: 3,
} as const

/** Each as the protocol has it: `headers` with its length in front. */
export type RawProperties = Partial<Record<keyof typeof propertyBits, Buffer>>

const frameEnd = 0xce
const method = 1
const header = 2
const body = 3

/** Of a frame beside its payload. */
const overhead = 8

export class RawPublisher {
  readonly #socket: Socket
  #received = Buffer.alloc(0)
  #frameMax = 4096
  #published = 0
  readonly #unconfirmed = new Set<number>()
  readonly #answers: string[] = []
  #wake = () => {}
  #failure: Error | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', data => this.#receive(data))
    socket.on('close', () => this.#fail('the broker has closed the connection'))
    socket.on('error', error => this.#fail(error.message))
  }

  static async connect(url: string): Promise<RawPublisher> {
    const { hostname, port, username, password } = new URL(url)
    const socket = connect({ host: hostname, port: Number(port), noDelay: true })
    await once(socket, 'connect')
    const publisher = new RawPublisher(socket)
    await publisher.#open(username, password)
    return publisher
  }

  async #open(user: string, password: string): Promise<void> {
    this.#socket.write('AMQP\0\0\x09\x01')
    await this.#answer('10.10')
    const credentials = long(`\0${user}\0${password}`)
    this.#method(0, 10, 11, u32(0), short('PLAIN'), credentials, short('en_US'))
    await this.#answer('10.30')
    this.#method(0, 10, 31, u16(1), u32(this.#frameMax), u16(0)) // no heartbeats
    this.#method(0, 10, 40, short('/'), short(''), u8(0))
    await this.#answer('10.41')
    this.#method(1, 20, 10, short(''))
    await this.#answer('20.11')
    this.#method(1, 85, 10, u8(0))
    await this.#answer('85.11')
  }

  publish(exchange: string, routingKey: string, properties: RawProperties, content: Buffer): void {
    this.#method(1, 60, 40, u16(0), short(exchange), short(routingKey), u8(0))
    const given = Object.entries(propertyBits).flatMap(([name, bit]) => {
      const value = properties[name as keyof RawProperties]
      return value === undefined ? [] : [{ bit, value }]
    })
    const flags = given.reduce((sum, { bit }) => sum | (1 << bit), 0)
    const values = given.map(({ value }) => value)
    this.#frame(header, 1, u16(60), u16(0), u64(BigInt(content.length)), u16(flags), ...values)
    for (let at = 0; at < content.length; at += this.#frameMax - overhead) {
      this.#frame(body, 1, content.subarray(at, at + this.#frameMax - overhead))
    }
    this.#unconfirmed.add(++this.#published)
  }

  /** Resolves when the broker has all of them. */
  async confirmed(): Promise<void> {
    await this.#until(() => this.#unconfirmed.size === 0)
  }

  close(): void {
    this.#socket.destroy()
  }

  #method(channel: number, type: number, id: number, ...fields: Buffer[]): void {
    this.#frame(method, channel, u16(type), u16(id), ...fields)
  }

  #frame(type: number, channel: number, ...parts: Buffer[]): void {
    const payload = Buffer.concat(parts)
    this.#socket.write(Buffer.concat([u8(type), u16(channel), u32(payload.length), payload, u8(frameEnd)]))
  }

  #receive(data: Buffer): void {
    this.#received = Buffer.concat([this.#received, data])
    while (this.#received.length >= overhead) {
      const end = this.#received.readUInt32BE(3) + overhead
      if (this.#received.length < end) break
      this.#accept(this.#received.subarray(overhead - 1, end - 1))
      this.#received = this.#received.subarray(end)
    }
    this.#wake()
  }

  #accept(payload: Buffer): void {
    const name = `${payload.readUInt16BE(0)}.${payload.readUInt16BE(2)}`
    if (name === '10.30') this.#frameMax = payload.readUInt32BE(6)
    if (name === '60.80') this.#confirm(payload)
    else if (name === '10.50' || name === '20.40') this.#fail(payload.subarray(7, 7 + payload.readUInt8(6)).toString())
    else this.#answers.push(name)
  }

  /** One message, or all up to it. */
  #confirm(payload: Buffer): void {
    const tag = Number(payload.readBigUInt64BE(4))
    const isMultiple = payload.readUInt8(12) === 1
    for (const each of isMultiple ? [...this.#unconfirmed] : [tag]) if (each <= tag) this.#unconfirmed.delete(each)
  }

  #fail(reason: string): void {
    this.#failure ??= new Error(reason)
    this.#wake()
  }

  async #answer(name: string): Promise<void> {
    await this.#until(() => this.#answers.includes(name))
  }

  async #until(isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      if (this.#failure) throw this.#failure
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
  }
}
