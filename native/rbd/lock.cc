#include "rbd/lock.h"

#include "rados/lockers.h"

namespace cephkit {
namespace {

bool IsOwner(Image& image) {
    int owner = 0;
    Check("rbd_is_exclusive_lock_owner", rbd_is_exclusive_lock_owner(image, &owner));
    return owner != 0;
}

void Acquire(Image& image) {
    Check("rbd_lock_acquire", rbd_lock_acquire(image, RBD_LOCK_MODE_EXCLUSIVE));
}

void Release(Image& image) {
    Check("rbd_lock_release", rbd_lock_release(image));
}

Object Owners(Image& image) {
    rbd_lock_mode_t mode = RBD_LOCK_MODE_EXCLUSIVE;
    std::vector<char*> owners(8);
    size_t count = owners.size();
    int result;
    while ((result = rbd_lock_get_owners(image, &mode, owners.data(), &count)) == -ERANGE)
        owners.resize(count);
    Array names;
    if (result != -ENOENT) {  // which is: nobody
        Check("rbd_lock_get_owners", result);
        const Cleanup cleanup([&] { rbd_lock_get_owners_cleanup(owners.data(), count); });
        for (size_t i = 0; i < count; i++)
            names.push_back(owners[i]);
    }
    return {{"mode", mode == RBD_LOCK_MODE_SHARED ? "shared" : "exclusive"}, {"owners", std::move(names)}};
}

void BreakLock(Image& image, const char* owner) {
    Check("rbd_lock_break", rbd_lock_break(image, RBD_LOCK_MODE_EXCLUSIVE, owner));
}

Object AdvisoryList(Image& image) {
    return ListLockers("rbd_list_lockers", [&](auto... rest) { return rbd_list_lockers(image, rest...); });
}

void AdvisoryExclusive(Image& image, const char* cookie) {
    Check("rbd_lock_exclusive", rbd_lock_exclusive(image, cookie));
}

void AdvisoryShared(Image& image, const char* cookie, const char* tag) {
    Check("rbd_lock_shared", rbd_lock_shared(image, cookie, tag));
}

void AdvisoryUnlock(Image& image, const char* cookie) {
    Check("rbd_unlock", rbd_unlock(image, cookie));
}

void AdvisoryBreak(Image& image, const char* client, const char* cookie) {
    Check("rbd_break_lock", rbd_break_lock(image, client, cookie));
}

}  // namespace

void InitRbdLock(Exports& exports) {
    exports.Blocking<IsOwner>("imageLockIsOwner");
    exports.Blocking<Acquire>("imageLockAcquire");
    exports.Blocking<Release>("imageLockRelease");
    exports.Blocking<Owners>("imageLockOwners");
    exports.Blocking<BreakLock>("imageLockBreak");
    exports.Blocking<AdvisoryList>("imageAdvisoryLockList");
    exports.Blocking<AdvisoryExclusive>("imageAdvisoryLockExclusive");
    exports.Blocking<AdvisoryShared>("imageAdvisoryLockShared");
    exports.Blocking<AdvisoryUnlock>("imageAdvisoryUnlock");
    exports.Blocking<AdvisoryBreak>("imageAdvisoryBreakLock");
}

}  // namespace cephkit
