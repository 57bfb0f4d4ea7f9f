#include <napi.h>

#include "cephfs/directory.h"
#include "cephfs/file.h"
#include "cephfs/mount.h"
#include "cephfs/mounted.h"
#include "cephfs/open_directory.h"
#include "cephfs/removal.h"
#include "cephfs/snapshot.h"
#include "cephfs/xattr.h"
#include "rados/cluster.h"
#include "rados/ioctx.h"
#include "rados/lock.h"
#include "rados/object.h"
#include "rados/watch.h"
#include "rbd/diff.h"
#include "rbd/encryption.h"
#include "rbd/image.h"
#include "rbd/image_watch.h"
#include "rbd/io.h"
#include "rbd/lock.h"
#include "rbd/pool.h"
#include "rbd/quiesce.h"
#include "rbd/snapshot.h"
#include "rbd/trash.h"
#include "runtime/bind.h"
#include "runtime/environment.h"

namespace cephkit {
namespace {

// Answers when the handle, and all that was opened through it, is closed.
class CloseCall final : public Operation {
public:
    using Operation::Operation;

    static Napi::Value Call(const Napi::CallbackInfo& info) {
        Arguments arguments(info);
        const auto handle = Handle::FromJs(arguments.Next());
        if (handle == nullptr) throw arguments.Expected("a handle");
        auto* operation = new CloseCall(info.Env());
        const auto promise = operation->promise();
        handle->Close([operation](const std::optional<Failure>& failure) {
            operation->failure_ = failure;
            operation->Finish();
        });
        return promise;
    }

private:
    Outcome TakeOutcome() override { return failure_ ? Outcome(*failure_) : Outcome(); }

    std::optional<Failure> failure_;
};

Napi::Value IsOpen(const Napi::CallbackInfo& info) {
    const auto handle = Handle::FromJs(info[0]);
    return Napi::Boolean::New(info.Env(), handle != nullptr && handle->open());
}

Napi::Value End(const Napi::CallbackInfo& info) {
    std::optional<int> exit_status;
    if (info[0].IsNumber()) exit_status = info[0].As<Napi::Number>();
    Environment::Of(info.Env())->End(exit_status);
    return info.Env().Undefined();
}

Napi::Value WorkerLoad(const Napi::CallbackInfo& info) {
    const auto load = Environment::Of(info.Env())->workers().load();
    auto object = Napi::Object::New(info.Env());
    object.Set("threads", static_cast<double>(load.threads));
    object.Set("busy", static_cast<double>(load.busy));
    object.Set("queued", static_cast<double>(load.queued));
    return object;
}

Napi::Object Init(Napi::Env env, Napi::Object object) {
    Environment::Create(env);
    Exports exports(object);
    exports.Raw("end", End);
    exports.Raw("close", CloseCall::Call);
    exports.Raw("isOpen", IsOpen);
    exports.Raw("workerLoad", WorkerLoad);
    exports.Raw("newAbortToken", AbortToken::New);
    exports.Raw("abort", AbortToken::Abort);
    InitCluster(exports);
    InitIoCtx(exports);
    InitObject(exports);
    InitRadosLock(exports);
    InitWatch(exports);
    InitPool(exports);
    InitTrash(exports);
    InitImage(exports);
    InitImageWatch(exports);
    InitEncryption(exports);
    InitQuiesce(exports);
    InitDiff(exports);
    InitIo(exports);
    InitRbdLock(exports);
    InitSnapshot(exports);
    InitMount(exports);
    InitMounted(exports);
    InitFile(exports);
    InitDirectory(exports);
    InitOpenDirectory(exports);
    InitRemoval(exports);
    InitXattr(exports);
    InitFileSystemSnapshot(exports);
    return object;
}

NODE_API_MODULE(cephkit, Init)

}  // namespace
}  // namespace cephkit
