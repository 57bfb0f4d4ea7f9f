import { connect, createServer } from 'node:net'

export const LOOPBACK = '127.0.0.1'

/**
 * Below the range from which Linux takes the local ports of outgoing connections, so that no connection, of which a
 * cluster makes hundreds, can take a port between the moment it is found free and the moment its daemon binds it.
 */
const FIRST = 20_000
const LAST = 32_000

const ATTEMPTS = 100

/** Handed out by this process, and perhaps not bound yet. */
const taken = new Set<number>()

/**
 * A free port of an address of this machine. Another program may still bind it first: the daemon that it was for then fails
 * with "address in use", and the stack, or what was being added to one, is tried again with other ports.
 */
export async function freePort(address = LOOPBACK): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST))
    if (!taken.has(port) && (await canBind(port, address))) {
      taken.add(port)
      return port
    }
  }
  throw new Error(`no free port between ${FIRST} and ${LAST} on ${address}`)
}

/** Whether something accepts connections on the port. */
export function accepts(port: number, address: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, address)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

function canBind(port: number, address: string): Promise<boolean> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, address, () => server.close(() => resolve(true)))
  })
}
