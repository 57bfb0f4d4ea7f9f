// A connection to a cluster.
//
// Owns:    one rados_t, and with it about five threads of librados.
// Threads: everything but construction runs on workers; rados_t is safe to share between threads.
#pragma once
#include <rados/librados.h>

#include "runtime/bind.h"

namespace cephkit {

class Cluster : public Handle {
public:
    static constexpr const char* kKind = "a cluster";

    explicit Cluster(rados_t cluster) : cluster_(cluster) {}
    operator rados_t() const { return cluster_; }

private:
    void Destroy() override { rados_shutdown(cluster_); }

    rados_t cluster_;
};

void InitCluster(Exports& exports);

}  // namespace cephkit
