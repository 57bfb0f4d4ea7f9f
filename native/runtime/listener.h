// A JavaScript function that Ceph's callbacks reach, from any thread, as often as they like.
//
// Made and destroyed on the JS thread.
#pragma once
#include "runtime/parameter.h"

namespace cephkit {

class Listener : public std::enable_shared_from_this<Listener> {
public:
    Listener(Napi::Env env, Napi::Function callback)
        : environment_(Environment::Of(env)), callback_(Napi::Persistent(callback)) {}

    // [any thread]
    void Post(Value event) { environment_->inbox().Post(new Event(shared_from_this(), std::move(event))); }

    // [any thread] For an event that says no more than that there was one: many on their way are one.
    void Signal() {
        if (!signalled_.exchange(true)) Post(Value());
    }

private:
    class Event : public Delivery {
    public:
        Event(std::shared_ptr<Listener> listener, Value value)
            : listener_(std::move(listener)), value_(std::move(value)) {}

        void Deliver(Napi::Env env) override {
            std::unique_ptr<Event> self(this);
            // Before the call, for what happens during it is new.
            listener_->signalled_ = false;
            listener_->callback_.Call({value_.ToJs(env)});
        }
        void Discard() override { delete this; }

    private:
        std::shared_ptr<Listener> listener_;
        Value value_;
    };

    std::shared_ptr<Environment> environment_;
    Napi::FunctionReference callback_;
    std::atomic<bool> signalled_{false};
};

template <>
struct Parameter<const std::shared_ptr<Listener>&> : PlainParameter<std::shared_ptr<Listener>> {
    static Stored Take(Arguments& arguments) {
        const auto value = arguments.Next();
        if (!value.IsFunction()) throw arguments.Expected("a function");
        return std::make_shared<Listener>(arguments.env(), value.As<Napi::Function>());
    }
};

}  // namespace cephkit
