#include "rbd/quiesce.h"

#include "runtime/listener.h"

namespace cephkit {
namespace {

// Has the image open once more. librbd loses count of snapshots in the making when a watch comes or goes in
// the middle of one: it aborts the process at the end of a snapshot whose beginning met no watch, and for
// ever keeps later snapshots waiting where a watch has met the beginning only. So the watch comes before the
// open image can have met any snapshot, and the open image goes with it. That it has come before is for lib/
// to see to.
class QuiesceWatch : public Handle {
public:
    static constexpr const char* kKind = "a quiesce watch";

    QuiesceWatch(std::shared_ptr<Handle> parent, std::shared_ptr<Listener> listener)
        : Handle(std::move(parent)), listener_(std::move(listener)) {}
    bool keeps_loop_alive() const override { return true; }

    // [worker]
    void Start(rados_ioctx_t ioctx, const char* image_id) {
        Check("rbd_open_by_id", rbd_open_by_id(ioctx, image_id, &image_, nullptr));
        // librbd may call back before it has told the watch.
        std::lock_guard<std::mutex> lock(mutex_);
        const int result = Watch();
        if (result != 0) rbd_close(image_);
        Check("rbd_quiesce_watch", result);
    }

    // Whether anybody waited for it: not once the watch closes.
    bool Answer(bool quiesced) {
        std::lock_guard<std::mutex> lock(mutex_);
        if (state_ != State::kAsked) return false;
        state_ = quiesced ? State::kQuiesced : State::kIdle;
        rbd_quiesce_complete(image_, watch_, quiesced ? 0 : -ECANCELED);
        return true;
    }

private:
    enum class State { kIdle, kAsked, kQuiesced };

    int Watch() { return rbd_quiesce_watch(image_, OnQuiesce, OnUnquiesce, this, &watch_); }

    // [librbd]
    static void OnQuiesce(void* watch) { static_cast<QuiesceWatch*>(watch)->OnQuiesce(); }
    static void OnUnquiesce(void* watch) { static_cast<QuiesceWatch*>(watch)->OnUnquiesce(); }

    void OnQuiesce() {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!closing_) {
            state_ = State::kAsked;
            listener_->Post("quiesce");
            return;
        }
        // librbd was about to call when the watch began to close. The unwatch waits for the unquiesce then,
        // and that would be none to librbd without a watch. This second one goes with the image.
        const uint64_t watch = watch_;
        if (!std::exchange(watches_again_, true)) Watch();
        rbd_quiesce_complete(image_, watch, 0);
    }

    void OnUnquiesce() {
        std::lock_guard<std::mutex> lock(mutex_);
        Unquiesce();
    }

    void Unquiesce() {
        if (std::exchange(state_, State::kIdle) == State::kQuiesced) listener_->Post("unquiesce");
    }

    // Nobody must be left quiesced, and nobody be left waiting.
    void Destroy() override {
        uint64_t watch;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            closing_ = true;
            if (state_ == State::kAsked) rbd_quiesce_complete(image_, watch_, -ECANCELED);
            Unquiesce();
            watch = watch_;
        }
        const int result = rbd_quiesce_unwatch(image_, watch);
        Check("rbd_close", rbd_close(image_));
        Check("rbd_quiesce_unwatch", result);
    }

    // The function may hold the watch, which would then never be collected.
    void Release() override { listener_ = nullptr; }

    std::shared_ptr<Listener> listener_;
    // librbd holds no lock of its own when it calls back, so this may be held when it is called.
    std::mutex mutex_;
    rbd_image_t image_ = nullptr;
    uint64_t watch_ = 0;
    State state_ = State::kIdle;
    bool closing_ = false;
    bool watches_again_ = false;
};

std::shared_ptr<Handle> StartQuiesceWatch(Image& image, const char* image_id,
                                          const std::shared_ptr<Listener>& listener) {
    auto watch = std::make_shared<QuiesceWatch>(image.shared_from_this(), listener);
    watch->Start(image.ioctx(), image_id);
    return watch;
}

// Not on a worker: were all of them to wait for snapshots, the answer that these wait for could not be sent.
bool AnswerQuiesce(QuiesceWatch& watch, bool quiesced) {
    return watch.Answer(quiesced);
}

}  // namespace

void InitQuiesce(Exports& exports) {
    exports.Blocking<StartQuiesceWatch>("quiesceWatchStart");
    exports.Sync<AnswerQuiesce>("quiesceWatchAnswer");
}

}  // namespace cephkit
