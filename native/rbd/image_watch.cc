#include "rbd/image_watch.h"

#include "runtime/listener.h"

namespace cephkit {
namespace {

class ImageWatch : public Handle {
public:
    ImageWatch(Image& image, std::shared_ptr<Listener> listener)
        : Handle(image.shared_from_this()), image_(image), listener_(std::move(listener)) {}
    bool keeps_loop_alive() const override { return true; }

    // [worker]
    void Start() { Check("rbd_update_watch", rbd_update_watch(image_, &watch_, OnUpdate, this)); }

private:
    // [librbd]
    static void OnUpdate(void* watch) { static_cast<ImageWatch*>(watch)->listener_->Signal(); }

    // Waits for a callback that runs, and there is none after it.
    void Destroy() override { Check("rbd_update_unwatch", rbd_update_unwatch(image_, watch_)); }

    // The function may hold the watch, which would then never be collected.
    void Release() override { listener_ = nullptr; }

    rbd_image_t image_;
    std::shared_ptr<Listener> listener_;
    uint64_t watch_ = 0;
};

std::shared_ptr<Handle> StartImageWatch(Image& image, const std::shared_ptr<Listener>& listener) {
    auto watch = std::make_shared<ImageWatch>(image, listener);
    watch->Start();
    return watch;
}

}  // namespace

void InitImageWatch(Exports& exports) {
    exports.Blocking<StartImageWatch>("imageWatchStart");
}

}  // namespace cephkit
