/** What went wrong with a development stack, in words for whoever typed the command. `code` is for programs. */
export class StackError extends Error {
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
    this.code = code
  }
}

/** Programs that the stack needs are not installed. */
export class MissingProgramsError extends StackError {
  readonly programs: string[]
  readonly packages: string[]

  constructor(programs: string[], packages: string[]) {
    super(
      'MISSING_PROGRAMS',
      `not installed: ${programs.join(', ')} (apt-get install --no-install-recommends ${packages.join(' ')})`,
    )
    this.programs = programs
    this.packages = packages
  }
}

/** A daemon, or a program that prepares one, ended when it should not have. */
export class DaemonFailedError extends StackError {
  readonly daemon: string
  /** The last lines it wrote. */
  readonly lastLines: string[]
  /** Whether it said that another program has its port. */
  readonly portTaken: boolean

  constructor(daemon: string, how: string, lastLines: string[], { portTaken }: { portTaken: boolean }) {
    super('DAEMON_FAILED', [`${daemon} ${how}`, ...lastLines.map(line => `  ${line}`)].join('\n'))
    this.daemon = daemon
    this.lastLines = lastLines
    this.portTaken = portTaken
  }
}

/** The cluster refused a command. */
export class CommandFailedError extends StackError {
  /** As Ceph gives it: negative, -17 for EEXIST. */
  readonly errno: number

  constructor(command: string, errno: number, message: string) {
    super('COMMAND_FAILED', `ceph ${command}: ${message || `error ${errno}`}`)
    this.errno = errno
  }
}

/** Something did not become ready within its limit. */
export class StackTimeoutError extends StackError {
  constructor(what: string, seconds: number) {
    super('TIMEOUT', `${what}: not ready after ${seconds} s`)
  }
}

/** Another `up` or `down` works on the folder and did not finish in time. */
export class StackBusyError extends StackError {
  constructor(dir: string, seconds: number) {
    super('BUSY', `another command has been working on ${dir} for ${seconds} s`)
  }
}

/** Something failed, which is the `cause`, and what was there of it could not be taken down either. */
export class CleanUpError extends StackError {
  constructor(first: unknown, second: unknown) {
    super('CLEAN_UP', `${messageOf(first)}\nand then could not clean up: ${messageOf(second)}`, { cause: first })
  }
}

/** Runs what cleans up after a failure, so that its own failure does not hide that one. */
export async function cleanUpAfter<T>(error: unknown, cleanUp: () => T | Promise<T>): Promise<T> {
  try {
    return await cleanUp()
  } catch (second) {
    throw new CleanUpError(error, second)
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** The folder holds something that is not a stack, which nobody wants overwritten or removed. */
export class NotAStackError extends StackError {
  constructor(dir: string) {
    super('NOT_A_STACK', `${dir} is not empty and holds no stack: choose another folder`)
  }
}

/** The stack runs with settings that only a new stack can change. */
export class StackConflictError extends StackError {
  /** @param running - Such as `with 2 OSDs`. */
  constructor(running: string) {
    super('CONFLICT', `the stack runs ${running}, which cannot be changed: take it down first`)
  }
}

/** An option has a value that cannot be. */
export class StackOptionError extends StackError {
  constructor(option: string, expected: string, actual: unknown) {
    super('INVALID_OPTION', `${option} must be ${expected}, not ${JSON.stringify(actual)}`)
  }
}
