// A pool, seen through one namespace.
//
// Owns:    one rados_ioctx_t. The namespace, and what becomes of writes to a full pool, are set once, when it
//          is opened: an ioctx has operations in flight on many threads, and changing it would change what
//          they do.
// Threads: safe to share.
#pragma once
#include "rados/cluster.h"

namespace cephkit {

class IoCtx : public Handle {
public:
    static constexpr const char* kKind = "a pool";

    IoCtx(std::shared_ptr<Handle> cluster, rados_ioctx_t ioctx) : Handle(std::move(cluster)), ioctx_(ioctx) {}
    operator rados_ioctx_t() const { return ioctx_; }

private:
    void Destroy() override { rados_ioctx_destroy(ioctx_); }

    rados_ioctx_t ioctx_;
};

// For calls of librbd that find nothing in a pool that is gone, and say no more. Throws Failure.
void CheckExists(IoCtx& ioctx);

void InitIoCtx(Exports& exports);

}  // namespace cephkit
