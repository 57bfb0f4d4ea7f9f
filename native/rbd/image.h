// An open RBD image.
//
// Owns:    one rbd_image_t. Keeps its pool, and through it the cluster, open.
// Closes:  on close(), when JavaScript drops it, when its pool or cluster closes or the environment ends;
//          always after the last operation in flight.
// Threads: librbd takes calls from any. What blocks runs on workers; I/O starts on the JS thread and ends on
//          one of librbd's, never two callbacks of one image at once.
#pragma once
#include <atomic>

#include "rados/ioctx.h"
#include "rbd/known_size.h"

namespace cephkit {

class Image : public Handle {
public:
    static constexpr const char* kKind = "an image";

    Image(std::shared_ptr<IoCtx> ioctx, rbd_image_t image, bool watches)
        : Handle(ioctx), ioctx_(*ioctx), image_(image), watches_(watches), known_size_(image) {}
    operator rbd_image_t() const { return image_; }
    rados_ioctx_t ioctx() const { return ioctx_; }
    KnownSize& known_size() { return known_size_; }

    // Once the lock is asked for by hand, librbd does not take it for a change by itself.
    void LockByHand() { locks_by_hand_ = true; }

    // [worker] librbd says EROFS of every change that it could not get the exclusive lock for. Where nobody
    // else keeps the image from being changed, it is the cluster that has not answered in time.
    void Explain(Failure& failure);

private:
    void StartDestroy(Closing* closing) override;
    // [JS thread, librados]
    void StartClose();

    rados_ioctx_t ioctx_;
    rbd_image_t image_;
    // As one does that is open for writing.
    const bool watches_;
    std::atomic<bool> locks_by_hand_{false};
    KnownSize known_size_;
    Closing* closing_ = nullptr;
};

// [worker] Empty for one of the old format, which has none. Throws Failure.
std::string IdOf(Image& image);

void InitImage(Exports& exports);

}  // namespace cephkit
