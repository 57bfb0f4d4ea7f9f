#include "runtime/inbox.h"

namespace cephkit {

Inbox::Inbox(Napi::Env env) {
    const auto name = Napi::String::New(env, "cephkit");
    const napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr,
                                                               nullptr, this, OnWake, &wake_);
    NAPI_THROW_IF_FAILED_VOID(env, status);
    napi_unref_threadsafe_function(env, wake_);
}

void Inbox::Post(Delivery* delivery) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return;
    posted_.push_back(delivery);
    arrived_.notify_one();
    // Under the lock, so that Silence() cannot return while a thread is about to wake a loop that ends.
    if (posted_.size() == 1 && !silent_) napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
}

void Inbox::Hold(Napi::Env env) {
    if (holds_++ == 0) napi_ref_threadsafe_function(env, wake_);
}

void Inbox::Unhold(Napi::Env env) {
    if (--holds_ == 0) napi_unref_threadsafe_function(env, wake_);
}

Delivery* Inbox::Wait(std::chrono::steady_clock::time_point deadline) {
    if (batch_.empty()) {
        std::unique_lock<std::mutex> lock(mutex_);
        if (!arrived_.wait_until(lock, deadline, [this] { return !posted_.empty(); })) return nullptr;
        batch_.swap(posted_);
    }
    Delivery* delivery = batch_.front();
    batch_.pop_front();
    return delivery;
}

void Inbox::Silence() {
    std::lock_guard<std::mutex> lock(mutex_);
    silent_ = true;
}

void Inbox::Close() {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
}

void Inbox::OnWake(napi_env env, napi_value, void* inbox, void*) {
    // Without an environment the loop is being torn down; Environment::End() takes what is left.
    if (env != nullptr) static_cast<Inbox*>(inbox)->DeliverAll(env);
}

void Inbox::DeliverAll(Napi::Env env) {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        batch_.insert(batch_.end(), posted_.begin(), posted_.end());
        posted_.clear();
    }
    while (!batch_.empty()) {
        Delivery* delivery = batch_.front();
        batch_.pop_front();
        Napi::HandleScope scope(env);
        try {
            delivery->Deliver(env);
        } catch (const Napi::Error& error) {
            // One listener's exception must not cost the others their deliveries.
            napi_fatal_exception(env, error.Value());
        }
    }
}

}  // namespace cephkit
