#include "rados/lock.h"

#include "rados/lockers.h"

namespace cephkit {
namespace {

// 0 ms means for ever, as a NULL duration does in C.
timeval* Duration(uint64_t milliseconds, timeval& duration) {
    if (milliseconds == 0) return nullptr;
    duration.tv_sec = milliseconds / 1000;
    duration.tv_usec = milliseconds % 1000 * 1000;
    return &duration;
}

void LockExclusive(IoCtx& ioctx, const char* object, const char* name, const char* cookie,
                   const char* description, uint64_t duration_ms, uint8_t flags) {
    timeval duration;
    Check("rados_lock_exclusive", rados_lock_exclusive(ioctx, object, name, cookie, description,
                                                       Duration(duration_ms, duration), flags));
}

void LockShared(IoCtx& ioctx, const char* object, const char* name, const char* cookie, const char* tag,
                const char* description, uint64_t duration_ms, uint8_t flags) {
    timeval duration;
    Check("rados_lock_shared", rados_lock_shared(ioctx, object, name, cookie, tag, description,
                                                 Duration(duration_ms, duration), flags));
}

int Unlock(RadosCompletion completion, IoCtx& ioctx, const char* object, const char* name,
           const char* cookie) {
    return rados_aio_unlock(ioctx, object, name, cookie, completion);
}

void BreakLock(IoCtx& ioctx, const char* object, const char* name, const char* client, const char* cookie) {
    Check("rados_break_lock", rados_break_lock(ioctx, object, name, client, cookie));
}

Object Lockers(IoCtx& ioctx, const char* object, const char* name) {
    return ListLockers("rados_list_lockers",
                       [&](auto... rest) { return rados_list_lockers(ioctx, object, name, rest...); });
}

}  // namespace

void InitRadosLock(Exports& exports) {
    exports.Blocking<LockExclusive>("objectLockExclusive");
    exports.Blocking<LockShared>("objectLockShared");
    exports.Aio<Unlock>("objectUnlock", "rados_aio_unlock");
    exports.Blocking<BreakLock>("objectBreakLock");
    exports.Blocking<Lockers>("objectListLockers");
}

}  // namespace cephkit
