import { EventEmitter } from 'node:events'
import { call } from '../call.js'
import { checkData } from '../check.js'
import { type CephError, type Resource, toCephError } from '../errors.js'
import { native } from '../native.js'
import type { NativeWatchEvent, WatchHandle } from './bindings.js'
import type { RadosObject } from './object.js'
import type { Bytes } from './write-operation.js'

export interface Notification {
  /** The id of the client that notifies. */
  notifier: bigint
  payload: Buffer
}

// biome-ignore lint/suspicious/noConfusingVoidType: a listener without a reply returns nothing
export type WatchListener = (notification: Notification) => Bytes | void | Promise<Bytes | void>

export interface NotifyResult {
  /** Who replied, and what. A client is as in `client.4123`; the cookie tells its watches apart. */
  acks: { client: bigint; cookie: bigint; payload: Buffer }[]
  /** Who watches, and did not reply in time. */
  timeouts: { client: bigint; cookie: bigint }[]
}

interface WatchEvents {
  /**
   * The watch is lost (a NotConnectedError: its object was removed, or the connection interrupted for longer than its `timeout`),
   * a reply could not be sent, or the listener threw. Without a listener for it, it ends the process, as every EventEmitter's does.
   *
   * A watch that is lost does not come back, not even with its object, and notifications may have been missed. `closed` stays
   * false, and it goes on to keep the process alive: close it, and watch anew.
   */
  error: [error: Error]
}

/**
 * A watch on a RADOS object, from `object.watch()`.
 */
export class Watch extends EventEmitter<WatchEvents> implements AsyncDisposable {
  /** What is watched. */
  readonly object: RadosObject
  /** @internal */
  readonly handle: WatchHandle
  readonly #resource: Resource
  readonly #listener: WatchListener

  /** @internal */
  constructor(object: RadosObject, handle: WatchHandle, resource: Resource, listener: WatchListener) {
    super()
    this.object = object
    this.handle = handle
    this.#resource = resource
    this.#listener = listener
  }

  get closed(): boolean {
    return !native.isOpen(this.handle)
  }

  /** @internal */
  receive(event: NativeWatchEvent): void {
    if ('errno' in event) {
      this.emit('error', this.#lost(event.errno))
    } else {
      this.#reply(event).catch((error: Error) => this.emit('error', error))
    }
  }

  #lost(errno: number): CephError {
    return toCephError({ errno, syscall: 'rados_watch3', message: 'the watch is lost' }, this.#resource)
  }

  /** Replies whatever the listener does, for the notifier waits. @implements rados_notify_ack */
  async #reply({ notifyId, notifier, payload }: Exclude<NativeWatchEvent, { errno: number }>): Promise<void> {
    let reply: Uint8Array = Buffer.alloc(0)
    try {
      reply = checkData('the reply', (await this.#listener({ notifier, payload })) ?? '')
    } finally {
      if (!this.closed) {
        await call(this.#resource, {}, token => native.watchAcknowledge(this.handle, notifyId, reply, token))
      }
    }
  }

  /** Stops watching. Safe to call again. @implements rados_unwatch2 rados_watch_flush */
  async close(): Promise<void> {
    await call(this.#resource, {}, () => native.close(this.handle))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
