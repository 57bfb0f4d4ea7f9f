// An open RBD image.
//
// Owns:    one rbd_image_t. Keeps its pool, and through it the cluster, open.
// Closes:  on close(), when JavaScript drops it, when its pool or cluster closes or the environment ends;
//          always after the last operation in flight.
// Threads: librbd takes calls from any. What blocks runs on workers; I/O starts on the JS thread and ends on
//          one of librbd's, never two callbacks of one image at once.
#pragma once
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
    // And not at a snapshot.
    bool is_open_for_writing() const { return watches_; }
    KnownSize& known_size() { return known_size_; }

private:
    void StartDestroy(Closing* closing) override;
    // [JS thread, librados]
    void StartClose();

    rados_ioctx_t ioctx_;
    rbd_image_t image_;
    // As one does that is open for writing.
    const bool watches_;
    KnownSize known_size_;
    Closing* closing_ = nullptr;
};

// An image that a call changes. Without the exclusive lock librbd refuses that with EROFS, whatever kept it
// from the lock: also where the cluster has not answered in time.
class ChangedImage : public std::shared_ptr<Image> {
public:
    explicit ChangedImage(std::shared_ptr<Image> image) : std::shared_ptr<Image>(std::move(image)) {}
    operator rbd_image_t() const { return *get(); }

    // [worker]
    void Explain(Failure& failure) const;
};

template <>
struct Parameter<const ChangedImage&> : PlainParameter<ChangedImage> {
    static ChangedImage Take(Arguments& arguments) {
        return ChangedImage(Parameter<Image&>::Take(arguments));
    }
};

// [worker] Empty for one of the old format, which has none. Throws Failure.
std::string IdOf(Image& image);

void InitImage(Exports& exports);

}  // namespace cephkit
