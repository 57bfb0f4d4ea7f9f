// An open RBD image.
//
// Owns:    one rbd_image_t. Keeps its pool, and through it the cluster, open.
// Closes:  on close(), when JavaScript drops it, when its pool or cluster closes or the environment ends;
// always
//          after the last operation in flight.
// Threads: librbd takes calls from any. What blocks runs on workers; I/O starts on the JS thread and ends on
//          one of librbd's, never two callbacks of one image at once.
#pragma once
#include <atomic>
#include <chrono>

#include "rados/ioctx.h"
#include "rbd/known_size.h"

namespace cephkit {

class Image : public Handle {
public:
    static constexpr const char* kKind = "an image";

    Image(std::shared_ptr<IoCtx> ioctx, rbd_image_t image, bool at_snapshot)
        : Handle(ioctx),
          ioctx_(*ioctx),
          image_(image),
          known_size_(image),
          use_(at_snapshot ? Use::kOfSnapshot : Use::kUnknown) {}
    operator rbd_image_t() const { return image_; }
    rados_ioctx_t ioctx() const { return ioctx_; }
    KnownSize& known_size() { return known_size_; }
    void CallBegins() override;

private:
    // What is open: a snapshot, this one or the parent of a clone, or none.
    enum class Use { kUnknown, kOfSnapshot, kOfNone };

    void StartDestroy(Closing* closing) override;
    void Destroy() override;
    bool JustOpened() const;

    rados_ioctx_t ioctx_;
    rbd_image_t image_;
    KnownSize known_size_;
    std::atomic<Use> use_;
    const std::chrono::steady_clock::time_point opened_at_ = std::chrono::steady_clock::now();
};

void InitImage(Exports& exports);

}  // namespace cephkit
