// A watch on a RADOS object: notifies of others, passed to JavaScript.
//
// Threads: librados calls back on a thread of its own, which may only queue. It waits with the notifier's
// answer until
//          JavaScript acknowledges.
#pragma once
#include "rados/ioctx.h"

namespace cephkit {

void InitWatch(Exports& exports);

}  // namespace cephkit
