// Calls to auth-edge. A refusal becomes an ApiError with what the server says about it and how to fix it.

export class ApiError extends Error {
  constructor(status, { code, message, field, fix }) {
    super(fix ? `${message} ${fix}` : message);
    this.status = status;
    this.code = code;
    this.field = field;
  }
}

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      credentials: "same-origin",
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, { code: "offline", message: "The server does not answer.", fix: "Check the connection and try again." });
  }
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  throw new ApiError(response.status, answer?.error ?? { code: "unexpected", message: `The server answered with status ${response.status}.`, fix: "Try again." });
}

export const get = (path) => call("GET", path);
export const post = (path, body = {}) => call("POST", path, body);
