// Encryption of an image by librbd, in LUKS format.
//
// Threads: blocking, on workers: a key is derived from the passphrase, which takes seconds of computing.
#pragma once
#include "rbd/image.h"

namespace cephkit {

void InitEncryption(Exports& exports);

}  // namespace cephkit
