/**
 * Headers can be nested deeper than the stack lets amqplib read them, and have types that it does not know. It would end the
 * connection over them; the message would come again, and end the next one, without end. Here the message comes all the
 * same, without its properties.
 */
import type { ChannelModel } from 'amqplib'
import { messageOf } from '../errors.js'
import type { Logger } from '../log.js'

/** amqplib's own, of which its types tell nothing. */
interface Connection {
  /** What was received and is no frame yet. */
  rest: Buffer
  recvFrame(): unknown
}

/** A frame of AMQP: its type, its channel, how long it is; of a header: the class, eight bytes further how long the body is. */
const headerType = 2
const channelAt = 1
const classAt = 7
const bodySizeAt = 11

export function readDespiteHeaders(model: ChannelModel, log: Logger): void {
  const connection = model.connection as unknown as Connection
  const receive = connection.recvFrame
  connection.recvFrame = () => {
    const { rest } = connection
    try {
      return receive.call(connection)
    } catch (error) {
      // It takes the frame off before it reads what is in it.
      const isFrame = connection.rest !== rest
      if (!isFrame || rest.readUInt8(0) !== headerType) throw error
      log.warn({ reason: messageOf(error) }, 'the properties of a message cannot be read: it is taken without them')
      return {
        id: rest.readUInt16BE(classAt),
        channel: rest.readUInt16BE(channelAt),
        size: Number(rest.readBigUInt64BE(bodySizeAt)),
        fields: {},
      }
    }
  }
}
