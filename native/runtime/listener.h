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

private:
    class Event : public Delivery {
    public:
        Event(std::shared_ptr<Listener> listener, Value value)
            : listener_(std::move(listener)), value_(std::move(value)) {}

        void Deliver(Napi::Env env) override {
            std::unique_ptr<Event> self(this);
            listener_->callback_.Call({value_.ToJs(env)});
        }
        void Discard() override { delete this; }

    private:
        std::shared_ptr<Listener> listener_;
        Value value_;
    };

    std::shared_ptr<Environment> environment_;
    Napi::FunctionReference callback_;
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
