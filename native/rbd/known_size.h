// The size of an open image as far as it is known without asking.
//
// Asking may wait: when somebody has changed the image, librbd reads its header anew. So the size is asked
// for once, on a worker, and forgotten as soon as librbd hears of a change.
#pragma once
#include <rbd/librbd.h>

#include <atomic>
#include <mutex>

#include "runtime/failure.h"

namespace cephkit {

class KnownSize {
public:
    explicit KnownSize(rbd_image_t image) : image_(image) {}
    KnownSize(const KnownSize&) = delete;

    // [any thread] Whether a range that ends there surely lies within the image.
    bool Covers(uint64_t end) const { return end <= bytes_; }

    // [worker]
    uint64_t Learn() {
        const uint64_t changes = ChangesSoFar();
        uint64_t bytes = 0;
        Check("rbd_get_size", rbd_get_size(image_, &bytes));
        std::lock_guard<std::mutex> lock(mutex_);
        // Changed in between: which of the two sizes this is, nobody can say.
        if (changes_ == changes) bytes_ = bytes;
        return bytes;
    }

    // [any thread]
    void Forget() {
        std::lock_guard<std::mutex> lock(mutex_);
        changes_++;
        bytes_ = 0;
    }

    // [JS thread] Before the image closes. Waits for a Forget() under way at most.
    void Unwatch() {
        if (watched_) rbd_update_unwatch(image_, watch_);
        watched_ = false;
    }

private:
    uint64_t ChangesSoFar() {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!watched_) {
            const auto on_change = [](void* size) { static_cast<KnownSize*>(size)->Forget(); };
            Check("rbd_update_watch", rbd_update_watch(image_, &watch_, on_change, this));
            watched_ = true;
        }
        return changes_;
    }

    rbd_image_t image_;
    // 0 is unknown, too.
    std::atomic<uint64_t> bytes_{0};
    // librbd holds no lock of its own when it calls back, so this may be held when it is called.
    std::mutex mutex_;
    uint64_t changes_ = 0;
    uint64_t watch_ = 0;
    bool watched_ = false;
};

}  // namespace cephkit
