// Requests to the server, with the token if it needs one.

const TOKEN = "cover-token";

export const setToken = (token) => sessionStorage.setItem(TOKEN, token);

function failure(status, text) {
  let reason = `The server answers ${status}.`;
  try {
    reason = JSON.parse(text).error;
  } catch {
    // a proxy's page, not an answer of the server
  }
  return Object.assign(new Error(reason), { status });
}

function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

export async function get(path) {
  const answer = await fetch(path, { headers: headers() }).catch(() => {
    throw new Error("The server does not answer. Is it still running?");
  });
  if (!answer.ok) throw failure(answer.status, await answer.text());
  return answer;
}

// Send a file; onUpload gets the share that is sent. fetch does not tell how far an upload is.
export function post(path, parameters, { blob, name }, onUpload) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${path}?${new URLSearchParams(parameters)}`);
    Object.entries(headers()).forEach(([key, value]) => request.setRequestHeader(key, value));
    request.upload.onprogress = ({ loaded, total }) => onUpload(loaded / total);
    request.upload.onload = () => onUpload(1);
    request.onload = () =>
      request.status === 200 ? resolve(JSON.parse(request.responseText)) : reject(failure(request.status, request.responseText));
    request.onerror = () => reject(new Error("The server does not answer, or stopped the upload."));
    const body = new FormData();
    body.append("file", blob, name);
    request.send(body);
  });
}
