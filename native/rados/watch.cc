#include "rados/watch.h"

#include "runtime/list.h"
#include "runtime/listener.h"

namespace cephkit {
namespace {

class Watch : public Handle {
public:
    static constexpr const char* kKind = "a watch";

    Watch(std::shared_ptr<Handle> parent, IoCtx& ioctx, std::string object,
          std::shared_ptr<Listener> listener)
        : Handle(std::move(parent)),
          ioctx_(ioctx),
          object_(std::move(object)),
          listener_(std::move(listener)) {}
    bool keeps_loop_alive() const override { return true; }

    // [worker] 0 s means the cluster's own time-out for watches.
    void Start(uint32_t timeout_seconds) {
        Check("rados_watch3",
              rados_watch3(ioctx_, object_.c_str(), &cookie_, OnNotify, OnError, timeout_seconds, this));
    }

    void Acknowledge(uint64_t notify_id, const Bytes& reply) {
        Check("rados_notify_ack", rados_notify_ack(ioctx_, object_.c_str(), notify_id, cookie_,
                                                   reply.data.data(), static_cast<int>(reply.data.size())));
    }

private:
    // [librados]
    static void OnNotify(void* watch, uint64_t notify_id, uint64_t, uint64_t notifier, void* data,
                         size_t size) {
        static_cast<Watch*>(watch)->listener_->Post(
            Object{{"notifyId", Opaque{notify_id}},
                   {"notifier", Opaque{notifier}},
                   {"payload", Bytes{std::string(static_cast<char*>(data), size)}}});
    }
    static void OnError(void* watch, uint64_t, int error) {
        static_cast<Watch*>(watch)->listener_->Post(Object{{"errno", error}});
    }

    void Destroy() override {
        const int result = rados_unwatch2(ioctx_, cookie_);
        // No callback may be running, or start, when this object goes.
        rados_watch_flush(rados_ioctx_get_cluster(ioctx_));
        // The watch was lost before, with its object or its connection: closed, then.
        if (result != -ENOENT && result != -ENOTCONN) Check("rados_unwatch2", result);
    }

    // The function may hold the watch, which would then never be collected.
    void Release() override { listener_ = nullptr; }

    rados_ioctx_t ioctx_;
    std::string object_;
    std::shared_ptr<Listener> listener_;
    uint64_t cookie_ = 0;
};

std::shared_ptr<Handle> StartWatch(IoCtx& ioctx, const std::string& object, uint32_t timeout_seconds,
                                   const std::shared_ptr<Listener>& listener) {
    auto watch = std::make_shared<Watch>(ioctx.shared_from_this(), ioctx, object, listener);
    watch->Start(timeout_seconds);
    return watch;
}

void Acknowledge(Watch& watch, Opaque notify_id, const Bytes& reply) {
    watch.Acknowledge(notify_id.bits, reply);
}

// What the watchers reply to a notify.
class NotifyReply {
public:
    ~NotifyReply() { rados_buffer_free(data); }

    Value ToValue(const AioResult& result) const {
        // ETIMEDOUT means that some did not answer, and the reply says who.
        if (result.value != -ETIMEDOUT || size == 0) result.Check();
        notify_ack_t* acks = nullptr;
        notify_timeout_t* timeouts = nullptr;
        size_t ack_count = 0, timeout_count = 0;
        Check("rados_decode_notify_response",
              rados_decode_notify_response(data, size, &acks, &ack_count, &timeouts, &timeout_count));
        const Cleanup free_decoded([&] { rados_free_notify_response(acks, ack_count, timeouts); });
        Array answered, silent;
        for (size_t i = 0; i < ack_count; i++) {
            answered.push_back(Object{{"client", Opaque{acks[i].notifier_id}},
                                      {"cookie", Opaque{acks[i].cookie}},
                                      {"payload", Bytes{std::string(acks[i].payload, acks[i].payload_len)}}});
        }
        for (size_t i = 0; i < timeout_count; i++) {
            silent.push_back(
                Object{{"client", Opaque{timeouts[i].notifier_id}}, {"cookie", Opaque{timeouts[i].cookie}}});
        }
        return Object{{"acks", std::move(answered)}, {"timeouts", std::move(silent)}};
    }

    char* data = nullptr;
    size_t size = 0;
};

// Not on a worker: were all of them to wait for replies, those of this process could not be sent.
int Notify(RadosCompletion completion, IoCtx& ioctx, const char* object, const Bytes& payload,
           uint64_t timeout_ms, NotifyReply* reply) {
    return rados_aio_notify(ioctx, object, completion, payload.data.data(),
                            static_cast<int>(payload.data.size()), timeout_ms, &reply->data, &reply->size);
}

}  // namespace

template <>
struct Parameter<NotifyReply*> : OutParameter<NotifyReply> {};

void InitWatch(Exports& exports) {
    exports.Blocking<StartWatch>("watchStart");
    exports.Blocking<Acknowledge>("watchAcknowledge");
    exports.Aio<Notify>("objectNotify", "rados_aio_notify");
}

}  // namespace cephkit
