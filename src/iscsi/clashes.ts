import type { Target } from './driver.js'

/**
 * Targets that cannot be beside those before them in the list, by iqn: each with a user that has another password there. A
 * target service may know one password for a user, whichever target it is for.
 */
export function clashesOf(targets: readonly Pick<Target, 'iqn' | 'chap'>[]): Map<string, string> {
  const passwords = new Map<string, string>()
  const clashes = new Map<string, string>()
  for (const { iqn, chap } of targets) {
    const credentials = chap === null ? [] : [chap, ...(chap.mutual ? [chap.mutual] : [])]
    const clash = credentials.find(({ user, password }) => (passwords.get(user) ?? password) !== password)
    if (clash) clashes.set(iqn, clash.user)
    else for (const { user, password } of credentials) passwords.set(user, password)
  }
  return clashes
}
